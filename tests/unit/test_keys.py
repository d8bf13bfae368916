"""API keys: who gets in, how keys come and go, and that a broken file never opens the door."""

import hmac
import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presafe.cli import main
from presafe.errors import UserError
from serve.operations.key_command import issue_key, revoke_key
from serve.operations.keys import LOOK_SECONDS, KeyRing, read_keys


class Clock:
    """A time that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "keys.yaml")


def bearer(token: str) -> str:
    return f"Bearer {token}"


def test_a_key_identifies_its_owner_and_nobody_else(path):
    tokens = {name: issue_key(path, name) for name in ("ada", "bo", "cy")}
    ring = KeyRing(path)
    for name, token in tokens.items():
        assert ring.identify(bearer(token)).id == name
        assert ring.identify(f"bearer  {token} ").id == name
        for forged in (token[:-1], token + "x", token.upper(), read_keys(path)[0].sha256):
            assert ring.identify(bearer(forged)) is None
        for header in (token, f"Basic {token}", f"Bearer{token}", "Bearer", "Bearer ", "", None):
            assert ring.identify(header) is None


@settings(derandomize=True, deadline=None)
@given(st.text())
def test_no_header_breaks_the_ring(tmp_path_factory, header):
    path = str(tmp_path_factory.getbasetemp() / "shared-keys.yaml")
    if not os.path.exists(path):
        issue_key(path, "ada")
    ring = KeyRing(path)
    assert ring.identify(header) is None
    assert ring.identify(bearer(header)) is None


def test_every_stored_digest_is_compared_wherever_the_right_one_stands(path, monkeypatch):
    tokens = [issue_key(path, name) for name in ("ada", "bo", "cy")]
    ring, compared = KeyRing(path), []

    def compare(stored, given):
        compared.append(stored)
        return stored == given

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for token in [*tokens, "presafe-unknown"]:
        compared.clear()
        ring.identify(bearer(token))
        assert compared == [key.sha256 for key in read_keys(path)]


def test_the_file_holds_no_token_and_is_its_owners_alone(path):
    tokens = [issue_key(path, "ada"), issue_key(path, "bo", requests_per_minute=60, concurrency=2)]
    assert len({len(token) for token in tokens}) == 1
    assert len(tokens[0]) == len("presafe-") + 43
    assert all(token not in Path(path).read_text() for token in tokens)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(os.path.dirname(path)) == ["keys.yaml"]
    ada, bo = read_keys(path)
    assert (ada.requests_per_minute, ada.concurrency) == (None, None)
    assert (bo.requests_per_minute, bo.concurrency) == (60, 2)


def test_keys_rotate_without_a_restart(path):
    old, clock = issue_key(path, "ada-1"), Clock()
    ring = KeyRing(path, clock)
    new = issue_key(path, "ada-2")
    assert ring.identify(bearer(new)) is None, "the file is looked at once a second at most"
    clock.now += LOOK_SECONDS
    assert ring.identify(bearer(new)).id == "ada-2"
    assert ring.identify(bearer(old)).id == "ada-1"
    revoke_key(path, "ada-1")
    clock.now += LOOK_SECONDS
    assert ring.identify(bearer(old)) is None
    assert ring.identify(bearer(new)).id == "ada-2"
    revoke_key(path, "ada-2")
    clock.now += LOOK_SECONDS
    assert ring.identify(bearer(new)) is None, "without any key nobody may enter"


BROKEN = ["keys: [", "", "keys: {}", "keys: [{id: ada}]", "open: true", "keys:\n- {id: a b, sha256: ''}", "\0"]


@pytest.mark.parametrize("text", BROKEN)
def test_a_file_that_breaks_keeps_the_old_keys_and_is_told_of_once(path, caplog, text):
    token, clock = issue_key(path, "ada"), Clock()
    ring, good = KeyRing(path, clock), Path(path).read_text()
    Path(path).write_text(text)
    with caplog.at_level(logging.ERROR, logger="ray.serve"):
        for _ in range(3):
            clock.now += LOOK_SECONDS
            assert ring.identify(bearer(token)).id == "ada"
            assert ring.identify("Bearer anything") is None
    assert [r.message.split(":")[0] for r in caplog.records if r.name == "ray.serve"] == [
        "the last good API keys stay in force"
    ]
    Path(path).write_text(good)
    new = issue_key(path, "bo")
    clock.now += LOOK_SECONDS
    assert ring.identify(bearer(new)).id == "bo"


def test_a_file_that_vanishes_keeps_the_old_keys(path):
    token, clock = issue_key(path, "ada"), Clock()
    ring = KeyRing(path, clock)
    os.remove(path)
    clock.now += LOOK_SECONDS
    assert ring.identify(bearer(token)).id == "ada"
    assert ring.identify("Bearer anything") is None


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_at_the_start_is_an_error(path, text):
    Path(path).write_text(text)
    with pytest.raises(UserError, match="no good"):
        KeyRing(path)


def test_a_missing_file_at_the_start_is_an_error(path):
    with pytest.raises(UserError, match="No such file"):
        KeyRing(path)


def test_who_may_not_make_keys_may_not_write_their_file(path):
    issue_key(path, "ada")
    os.chmod(path, 0o644)
    KeyRing(path)
    os.chmod(path, 0o646)
    with pytest.raises(UserError, match="chmod o-w"):
        KeyRing(path)


@pytest.mark.parametrize("field", ["id", "sha256"])
def test_two_keys_never_share_an_id_or_a_digest(path, field):
    issue_key(path, "ada")
    issue_key(path, "bo")
    first, second = read_keys(path)
    text = Path(path).read_text()
    Path(path).write_text(text.replace(f"{field}: {getattr(second, field)}", f"{field}: {getattr(first, field)}"))
    with pytest.raises(UserError, match=f"{field} .* more than once"):
        read_keys(path)


def test_keys_issued_at_once_are_all_kept(path):
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda k: issue_key(path, f"key-{k}"), range(24)))
    ring = KeyRing(path)
    assert [ring.identify(bearer(token)).id for token in tokens] == [f"key-{k}" for k in range(24)]


def test_a_linked_file_stays_a_link(path, tmp_path):
    real = str(tmp_path / "real.yaml")
    issue_key(real, "ada")
    os.symlink(real, path)
    issue_key(path, "bo")
    assert os.path.islink(path)
    assert [key.id for key in read_keys(real)] == ["ada", "bo"]


def test_the_command_shows_a_key_once(path, capsys):
    main(["key", "add", path, "ada", "--requests-per-minute", "60"])
    token = capsys.readouterr().out.strip()
    assert KeyRing(path).identify(bearer(token)).id == "ada"
    main(["key", "list", path])
    listed = capsys.readouterr().out
    assert "ada" in listed
    assert "60 requests a minute, any number at once" in listed
    assert token not in listed
    main(["key", "revoke", path, "ada"])
    assert KeyRing(path).identify(bearer(token)) is None


@pytest.mark.parametrize("wrong", [{"key_id": "a b"}, {"key_id": ""}, {"key_id": "x", "concurrency": 0}])
def test_the_command_takes_no_nonsense(path, wrong):
    with pytest.raises(UserError, match="correct it"):
        issue_key(path, **wrong)
    assert not os.path.exists(path)


def test_the_command_says_which_id_is_taken_or_missing(path):
    issue_key(path, "ada")
    with pytest.raises(UserError, match="a key ada in"):
        issue_key(path, "ada")
    with pytest.raises(UserError, match="no key bo"):
        revoke_key(path, "bo")
    with pytest.raises(UserError, match="no folder"):
        issue_key("/nowhere/keys.yaml", "ada")
