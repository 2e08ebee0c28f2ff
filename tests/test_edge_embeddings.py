"""POST /v1/embeddings of a server of text."""

from edge_client import error_of


def test_a_model_of_text_embeds_none(serve):
    client = serve()
    error = error_of(client.post("/v1/embeddings", json={"input": "x"}), 400)
    assert (error["param"], error["code"]) == ("model", "unsupported_model")
    assert "acme/fake-moe" in error["message"]
    assert error_of(client.post("/v1/embeddings", json={"model": "other", "input": "x"}), 404)["param"] == "model"
    error_of(client.post("/v1/embeddings", data="x"), 415)
