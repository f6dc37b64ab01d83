"""What an OpenAPI document demands of requests and answers, compiled so that each exchange can be checked against it."""
