"""A handler for all models of a server that has a module beside it whose name a model's module has too."""

import neighbour

from sagemaker_inference_lite.default_handler_service import DefaultHandlerService


class Handler(DefaultHandlerService):
    def postprocess(self, prediction, accept):
        self.context.set_response_header(0, "X-Handler", neighbour.NAME)
        return super().postprocess(prediction, accept)
