"""GET /openapi.json: the endpoint's description in OpenAPI 3.1, made of the constants that the code itself reads."""
