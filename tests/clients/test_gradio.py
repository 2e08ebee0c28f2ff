"""gradio's chat for the browser over the server: what a visitor says is streamed into the page."""

from itertools import pairwise

import gradio
import pytest
from conftest import MODEL
from gradio_client import Client


@pytest.fixture(scope="module")
def address(url):
    page = gradio.load_chat(url, MODEL, token="none")
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", share=False)
    try:
        yield address
    finally:
        page.close()


@pytest.mark.parametrize("said", ["hello", "how are you today?"])
def test_a_message_is_answered_as_it_comes(address, said):
    """A new visitor each, who asks as the page's script in the browser does."""
    job = Client(address, verbose=False).submit({"text": said, "files": []}, api_name="/open_api_stream")
    answer = job.result(timeout=60)
    steps = [step for step in job.outputs() if isinstance(step, str)]
    assert answer.strip() and len(steps) > 1
    assert all(later.startswith(sooner) for sooner, later in pairwise(steps))
