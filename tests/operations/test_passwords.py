"""A password is in no message, log line or text of an object, however wrong the URL is that it stands in."""

from __future__ import annotations

import logging
import traceback
from urllib.parse import quote, urlsplit

import pytest
from click.testing import CliRunner

import durable
from durable.cli.main import main
from durable.client.address import Address, without_password
from tests.operations.speaking import changed

SECRET = "cr7t"
PASSWORDS = [f"s3{between}{SECRET}" for between in ("", *"/@:#?%[] &=+,")] + [f"[{SECRET}]", f"12/{SECRET}"]
URLS = [
    *(f"{scheme}://me:{{}}@127.0.0.1:1/shop" for scheme in ("postgresql", "postgres", "mysql", "mariadb")),
    *("redis://me:{}@host/0", "sqlite://me:{}@host/x.db", "nowhere://me:{}@host/shop"),
    *("me:{}@host/shop", "postgresql:me:{}@host/shop", "postgresql:/me:{}@host/shop"),
    *("postgresql://me:{}@127.0.0.1:x/shop", "mysql://me:{}@127.0.0.1:x/shop", "mysql://me:{}@127.0.0.1:1"),
    *("postgresql://me:{}@127.0.0.1:1/shop?poll=x", "mysql://me:{}@127.0.0.1:1/shop?pool_size=x"),
    *("postgresql://me@127.0.0.1:1/shop?password={}", "mysql://me@127.0.0.1:1/shop?passwd={}"),
    "postgresql://me:{}@127.0.0.1:1,127.0.0.1:2/shop?nonsense=1",
]


def told(error: BaseException) -> str:
    """All that a traceback shows of an error, but for the lines of code."""
    frames = ("  File", "    ")
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(line for line in lines if not line.startswith(frames))


@pytest.mark.parametrize("url", URLS)
async def test_no_message_has_it(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    for password in PASSWORDS:
        monkeypatch.setenv("DURABLE_URL", url.format(password))
        with pytest.raises((ValueError, durable.BackendError)) as caught:
            async with durable.connect():
                pass
        assert "\n" not in str(caught.value)
        assert SECRET not in told(caught.value), password
    assert SECRET not in caplog.text


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_that_is_encoded_is_understood(password: str) -> None:
    url = f"postgresql://me:{quote(password, safe='')}@host/shop"
    address = Address.of(url)
    assert address.url == url
    assert without_password(url) == "postgresql://me:***@host/shop"
    assert password not in repr(address) and quote(password, safe="") not in repr(address)


@pytest.mark.parametrize("sign", ["/", "?", "#"])
def test_what_must_be_encoded_is_said(sign: str) -> None:
    with pytest.raises(
        ValueError, match=r"write '/', '\?' and '#' in a user name or password as %2F, %3F and %23"
    ):
        Address.of(f"mysql://me:s3{sign}cret@host/shop")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///shop.db",
        "sqlite:////tmp/a:b/c@d.db",
        "postgresql://me@host:5432/shop?schema=a",
        "postgresql://me@one:5432,two:5432/sh@p",
        "mysql://host:3306/shop?x=a@b",
        "memory://name",
    ],
)
def test_a_url_without_a_password_is_left_in_peace(url: str) -> None:
    assert Address.of(url).scheme == url.partition(":")[0]


@pytest.fixture(params=["postgres", "mysql"])
def server_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


async def test_no_text_of_an_open_store_has_it(server_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    password = str(urlsplit(server_url).password)
    async with durable.connect(server_url) as client, durable.Worker(client, [nothing]) as worker:
        await (await client.create_instance(nothing))
        seen = [client, worker, client.store, *vars(client.store).values()]
        texts = " ".join(f"{one!r} {one}" for one in seen)
    assert password not in texts + caplog.text


@durable.workflow
async def nothing() -> None:
    return None


async def test_a_wrong_password_is_one_line(server_url: str) -> None:
    wrong = changed(server_url, user=str(urlsplit(server_url).username), password=f"wrong@{SECRET}")
    with pytest.raises(durable.BackendError) as caught:
        async with durable.connect(wrong):
            pass
    assert SECRET not in told(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words", [["db", "migrate"], ["db", "distribute"], ["check", "tests.cli.shop_before"]]
)
@pytest.mark.parametrize(
    "url", ["postgresql://me:cr7t@127.0.0.1:1/shop", "mysql://me:s3/cr7t@127.0.0.1:1/shop"]
)
def test_no_command_shows_it(words: list[str], url: str) -> None:
    ran = CliRunner().invoke(main, [*words, "--url", url])
    assert ran.exit_code != 0 and SECRET not in ran.output
    assert isinstance(ran.exception, SystemExit), ran.exception
