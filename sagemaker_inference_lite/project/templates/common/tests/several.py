"""The models, served and asked as a multi-model endpoint does it."""

import pytest
import requests
from sagemaker_inference_lite import testing

ROWS = {"iris": [[5.1, 3.5, 1.4, 0.2]], "wine": [[14.2, 1.7, 2.4, 15.6]]}


@pytest.fixture(scope="module")
def url():
    """Where the models are served while the tests run."""
    with testing.serving("models/iris", "models/wine") as address:
        yield address


@pytest.mark.parametrize("name", ROWS)
def test_an_answer_for_each_row(url, name):
    answer = requests.post(f"{url}/models/{name}/invoke", json=ROWS[name], timeout=30)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()) == 1


def test_what_is_no_json_is_the_clients_mistake(url):
    headers = {"Content-Type": "application/json"}
    assert requests.post(f"{url}/models/iris/invoke", data="[", headers=headers, timeout=30).status_code == 400


def test_a_model_that_is_not_there(url):
    assert requests.post(f"{url}/models/nobody/invoke", json=[[1]], timeout=30).status_code == 404
