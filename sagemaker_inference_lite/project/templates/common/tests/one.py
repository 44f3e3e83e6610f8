"""The model, served and asked as SageMaker does it."""

import pytest
import requests
from sagemaker_inference_lite import testing

ROWS = [[5.1, 3.5, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4]]


@pytest.fixture(scope="module")
def url():
    """Where the model is served while the tests run."""
    with testing.serving("@FIRST@") as address:
        yield address


def test_an_answer_for_each_row(url):
    answer = requests.post(f"{url}/invocations", json=ROWS, timeout=30)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()) == len(ROWS)


def test_csv(url):
    body = "\n".join(",".join(map(str, row)) for row in ROWS)
    answer = requests.post(f"{url}/invocations", data=body, headers={"Content-Type": "text/csv"}, timeout=30)
    assert answer.status_code == 200, answer.text


def test_what_is_no_json_is_the_clients_mistake(url):
    answer = requests.post(f"{url}/invocations", data="[", headers={"Content-Type": "application/json"}, timeout=30)
    assert answer.status_code == 400
