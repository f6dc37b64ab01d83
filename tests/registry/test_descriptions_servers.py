"""Documents as callers are shown them: without the addresses of the department's own systems."""

from __future__ import annotations

import pytest

from registry.descriptions.reading import read_document
from registry.descriptions.servers import without_hosts
from tests.registry.description_kit import OK, Tree, of, read, tree

YAML = """\
# 内网地址 stays in this comment, as everything else does
openapi: 3.0.3
info: {title: 企业登记查询 😀, version: "1"}
servers:
- url: https://10.1.2.3:8443/v1/cats   # 内网
  description: 内网
- {url: 'http://inner.example', description: "x"}
- url: >
    https://10.1.2.3/folded
- url: "https://{host}.example/{base}"
  variables: {host: {default: a}, base: {default: b}}
- url: /already
paths:
  /a:
    servers: [url: "https://10.9.9.9/path?x=1#y"]
    get:
      servers:
      - url: https://10.9.9.9/操作
      responses:
        200: {description: ok}
"""


def urls(found: Tree) -> list[str]:
    item = found["paths"]["/a"]
    servers = [*found["servers"], *item["servers"], *item["get"]["servers"]]
    return [each["url"] for each in servers]


PATHS = ["/v1/cats", "", "/folded\n", "https://{host}.example/{base}", "/already", "/path", "/操作"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_yaml_keeps_all_but_the_hosts(newline: str) -> None:
    text = YAML.replace("\n", newline)
    document = read_document(text.encode())
    shown = without_hosts(document)
    assert shown is not None
    assert "10." not in shown
    assert "inner.example" not in shown
    assert "# 内网地址 stays in this comment" in shown
    assert "   # 内网" + newline in shown
    again = read_document(shown.encode())
    assert [each.strip() for each in urls(again.tree)] == [each.strip() for each in PATHS]
    without, before = again.tree, document.tree
    for each in (without, before):
        del each["servers"], each["paths"]["/a"]["servers"], each["paths"]["/a"]["get"]["servers"]
    assert without == before


def test_json_keeps_all_other_values() -> None:
    found = tree(
        "3.1.1",
        servers=[{"url": "https://10.1.2.3/v2"}],
        paths={"/a": {"get": {"responses": OK}, "servers": [{"url": "//10.1.2.3/x"}]}},
        components={
            "pathItems": {"P": {"servers": [{"url": "https://10.1.2.3/p"}]}},
            "callbacks": {"C": {"{$url}": {"servers": [{"url": "https://10.1.2.3/c"}]}}},
        },
    )
    shown = without_hosts(read(of(found))[0])
    assert shown is not None
    assert "10.1.2.3" not in shown
    assert "企业登记查询" in shown
    again, _ = read(shown)
    assert again.tree["servers"] == [{"url": "/v2"}]
    assert again.tree["info"] == found["info"]


def test_servers_of_links_are_servers() -> None:
    found = tree(components={"links": {"L": {"operationId": "x", "server": {"url": "https://10.1.2.3/l"}}}})
    shown = without_hosts(read(found)[0])
    assert shown is not None
    assert read(shown)[0].tree["components"]["links"]["L"]["server"] == {"url": "/l"}


def test_a_document_without_hosts_is_shown_as_it_is() -> None:
    assert without_hosts(read(tree())[0]) is None
    variable = {"url": "https://{a}/b", "variables": {"a": {"default": "x"}}}
    assert without_hosts(read(tree(servers=[{"url": "/v1"}, variable]))[0]) is None


def test_what_is_no_url_leaves_nothing() -> None:
    shown = without_hosts(read(tree(servers=[{"url": "http://[bad/secret"}]))[0])
    assert shown is not None
    assert "secret" not in shown
