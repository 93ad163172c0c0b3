"""Tokens: shown once, kept as digests, for some families and verbs, until a day."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from compat.errors import NotFoundError, UsageError
from compat.files import digest_of
from registry.cli_token import token_app
from registry.tokens import TokenBook

NOW = datetime.now(UTC)
MONTH = timedelta(days=30)


@pytest.fixture
def book(tmp_path):
    return TokenBook(tmp_path / "tokens.json")


def test_a_token_is_known_again_and_nothing_else_is(book):
    token, words = book.add(("chairs",), ("publish",), lifetime=MONTH)
    _, others = book.add(("shoes",), ("publish",), lifetime=MONTH)
    assert book.find(words, NOW) == token
    for wrong in (
        "",
        "kin_",
        words[:-1],
        words + "A",
        words[:-1] + "!",
        words.upper(),
        others[:13],
    ):
        assert book.find(wrong, NOW) is None
    swapped = words[:13] + others[13:]  # the id of one, the secret of another
    assert swapped not in (words, others)
    assert book.find(swapped, NOW) is None


def test_a_token_holds_until_its_day(book):
    token, words = book.add(("chairs",), ("publish",), lifetime=MONTH)
    assert book.find(words, token.expires - timedelta(seconds=1)) == token
    assert book.find(words, token.expires) is None


def test_a_token_is_for_its_families_and_verbs(book):
    token, _ = book.add(("chairs", "shoes"), ("publish",), lifetime=MONTH)
    assert token.may("publish", "chairs")
    assert token.may("publish", "shoes")
    assert not token.may("promote", "chairs")
    assert not token.may("publish", "hats")
    assert not token.may("publish", "*")
    every, _ = book.add(("*",), ("publish", "keys"), lifetime=MONTH)
    assert every.may("publish", "hats")
    assert every.may("keys", "*")


def test_the_file_gives_nobody_a_token(book):
    _, words = book.add(("chairs",), ("publish",), lifetime=MONTH)
    text = book.path.read_text()
    assert words[13:] not in text
    assert digest_of(words[13:].encode()) in text
    assert book.path.stat().st_mode & 0o777 == 0o600


def test_a_revoked_token_is_out_at_once(book):
    token, words = book.add(("chairs",), ("publish",), lifetime=MONTH)
    other, _ = book.add(("chairs",), ("publish",), lifetime=MONTH)
    book.revoke(token.id)
    assert book.find(words, NOW) is None
    assert book.tokens == (other,)
    with pytest.raises(NotFoundError, match=token.id):
        book.revoke(token.id)


@pytest.mark.parametrize(
    ("families", "verbs"), [((), ("publish",)), (("chairs",), ()), (("Chairs/..",), ("publish",))]
)
def test_a_token_for_nothing_is_not_made(book, families, verbs):
    with pytest.raises(UsageError, match="no token"):
        book.add(families, verbs, lifetime=MONTH)
    assert not book.path.exists()


def test_a_damaged_file_lets_nobody_in(book):
    _, words = book.add(("chairs",), ("publish",), lifetime=MONTH)
    book.path.write_text("{}x")
    with pytest.raises(UsageError, match="no file of tokens"):
        book.find(words, NOW)


def test_the_command_makes_lists_and_revokes(tmp_path):
    path = str(tmp_path / "tokens.json")

    def run(*arguments):
        return CliRunner().invoke(token_app, [*arguments, "--tokens", path])

    wanted = ("new", "--family", "chairs", "--verb", "publish", "--verb", "promote")
    made = run(*wanted, "--days", "7", "--json")
    assert made.exit_code == 0, made.output
    shown = json.loads(made.stdout)
    assert TokenBook(tmp_path / "tokens.json").find(shown["token"], NOW).verbs == (
        "publish",
        "promote",
    )
    plain = run(*wanted)
    assert plain.stdout.startswith("kin_")
    assert plain.stdout.count("\n") == 1  # fit for $(...)
    listed = json.loads(run("list", "--json").stdout)
    assert [each["verbs"] for each in listed] == [["publish", "promote"]] * 2
    assert "token" not in listed[0]
    assert "secret_digest" not in listed[0]
    assert run("revoke", shown["id"]).exit_code == 0
    assert shown["id"] not in run("list").stdout
    assert run("revoke", shown["id"]).exit_code == 2
    refused = run("new", "--family", "chairs", "--verb", "destroy")
    assert (refused.exit_code, "publish, promote, keys" in refused.stderr) == (2, True)
