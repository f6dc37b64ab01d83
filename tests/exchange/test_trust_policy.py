"""Policies: every rule of c2sp.org/tlog-policy has a text that breaks it, and quorums agree with counting by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.transparency.checkpoint import Checkpoint, NoteError, NoteSigner
from exchange.transparency.cosignature import ML_DSA_44, Cosigner
from exchange.transparency.merkle import hash_leaf
from exchange.transparency.trust_policy import PolicyError, TrustPolicy

LOG = NoteSigner.generate("log.example/datong")
WITNESSES = [Cosigner.generate(f"w{number}.example") for number in range(6)]
V = [witness.verifier.vkey for witness in WITNESSES]
EXAMPLE = f"""\
# Two levels of groups, as in the specification.
log {LOG.verifier.vkey} https://log.example/

witness X1 {V[0]}\thttps://x1.example/submit/
 witness\tX2  {V[1]}
witness X3 {V[2]}
group X-witnesses 2 X1 X2 X3

witness Y1 {V[3]}
witness Y2 {V[4]}
witness Y3 {V[5]}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
  # the end\t
"""


def test_the_example_of_the_specification_is_understood() -> None:
    policy = TrustPolicy.from_text(EXAMPLE)
    assert policy.text == EXAMPLE
    assert [(log.verifier.vkey, log.url) for log in policy.logs] == [(LOG.verifier.vkey, "https://log.example/")]
    assert [one.name for one in policy.witnesses] == ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
    assert [one.verifier.vkey for one in policy.witnesses] == V
    assert policy.witnesses[0].url == "https://x1.example/submit"
    assert policy.witnesses[1].url == ""
    names = [one.name for one in policy.witnesses]
    for count in range(7):
        for chosen in itertools.combinations(names, count):
            enough = sum(name[0] == "X" for name in chosen) >= 2 and any(name[0] == "Y" for name in chosen)
            assert policy.satisfied_by(chosen) == enough
    assert policy.missing(["X1", "Y2"]) == ["X2", "X3"]
    assert policy.missing(["X1", "X2", "Y2"]) == []
    assert policy.missing([]) == names
    assert not policy.satisfied_by(["X-and-Y", "X-witnesses", "Y-witnesses", "stranger"])


W0, W1 = f"witness a {V[0]}\n", f"witness b {V[1]}\n"
BAD = {
    "empty": "",
    "no quorum": W0,
    "two quorums": W0 + "quorum a\nquorum a\n",
    "quorum none twice": "quorum none\nquorum none\n",
    "quorum of an unknown name": W0 + "quorum b\n",
    "quorum before its witness": "quorum a\n" + W0,
    "quorum of nothing": W0 + "quorum\n",
    "quorum of two": W0 + W1 + "quorum a b\n",
    "a comment behind a line": W0 + "quorum a # all\n",
    "no last newline": W0 + "quorum a",
    "unknown keyword": W0 + "quorum a\nwitnesses b\n",
    "capital keyword": W0 + "Quorum a\n",
    "carriage return": W0 + "quorum a\r\n",
    "null": W0 + "quorum a\n#\0\n",
    "delete": W0 + "quorum a\n#\x7f\n",
    "form feed": W0 + "quorum\fa\n",
    "no-break space as white space": W0 + "quorum\u00a0a\n",
    "a witness called none": f"witness none {V[0]}\nquorum none\n",
    "a group called none": W0 + "group none any a\nquorum none\n",
    "none in a group": W0 + "group g any a none\nquorum g\n",
    "one name for two witnesses": W0 + f"witness a {V[1]}\nquorum a\n",
    "one name for witness and group": W0 + W1 + "group a any b\nquorum a\n",
    "one key under two names": W0 + f"witness b {V[0]}\nquorum a\n",
    "one log twice": f"log {LOG.verifier.vkey}\nlog {LOG.verifier.vkey} https://x\nquorum none\n",
    "a log key for a witness": f"witness a {LOG.verifier.vkey}\nquorum a\n",
    "a witness key for a log": f"log {V[0]}\nquorum none\n",
    "a key with another id": f"witness a {V[0].replace('w0', 'x0')}\nquorum a\n",
    "a key that is none": "witness a w0.example+12345678+AAAA\nquorum a\n",
    "a witness without a key": "witness a\nquorum a\n",
    "a witness with too much": W0[:-1] + " https://a https://b\nquorum a\n",
    "a log without a key": "log\nquorum none\n",
    "a log with too much": f"log {LOG.verifier.vkey} https://a b\nquorum none\n",
    "a group without members": W0 + "group g any\nquorum g\n",
    "a group without a threshold": W0 + "group g a\nquorum a\n",
    "threshold 0": W0 + "group g 0 a\nquorum g\n",
    "threshold too high": W0 + "group g 2 a\nquorum g\n",
    "threshold negative": W0 + "group g -1 a\nquorum g\n",
    "threshold with a sign": W0 + "group g +1 a\nquorum g\n",
    "threshold with a leading zero": W0 + "group g 01 a\nquorum g\n",
    "threshold in other digits": W0 + "group g １ a\nquorum g\n",
    "threshold in capitals": W0 + "group g ALL a\nquorum g\n",
    "threshold of many digits": W0 + f"group g {'1' * 5000} a\nquorum g\n",
    "an unknown member": W0 + "group g any a b\nquorum g\n",
    "a member defined later": W0 + "group g any a b\n" + W1 + "quorum g\n",
    "a group in itself": W0 + "group g any a g\nquorum g\n",
    "a member twice": W0 + "group g 2 a a\nquorum g\n",
    "a member of two groups": W0 + W1 + "group g any a\ngroup h any a b\nquorum h\n",
    "a group in two groups": W0 + W1 + "group g any a\ngroup h any g\ngroup i any g b\nquorum i\n",
    "a Kelvin sign for a K": f"witness K {V[0]}\nquorum \u212a\n",
    "too long": "#" * (1 << 20) + "\nquorum none\n",
}


@pytest.mark.parametrize("name", BAD)
def test_what_the_specification_does_not_allow_is_refused(name: str) -> None:
    with pytest.raises(PolicyError):
        TrustPolicy.from_text(BAD[name])


def test_the_line_of_an_error_is_told() -> None:
    with pytest.raises(PolicyError, match=r"line 4: .*'b'"):
        TrustPolicy.from_text("# one\n\n" + W0 + "group g any a b\nquorum g\n")


def test_a_quorum_of_none_asks_for_nothing() -> None:
    policy = TrustPolicy.from_text("quorum none\n")
    assert (policy.logs, policy.witnesses, policy.groups) == ((), (), ())
    assert policy.satisfied_by([])
    assert policy.missing([]) == []


def test_names_of_any_letters_and_keys_of_either_algorithm_are_read(tmp_path: Path) -> None:
    strong = Cosigner.generate("审计厅.example", ML_DSA_44).verifier.vkey
    file = tmp_path / "policy.txt"
    text = f"witness 审计厅 {strong}\nwitness #民政局 {V[1]}\ngroup 2 all 审计厅 #民政局\nquorum 2\n"
    file.write_bytes("# 说明\n".encode("gb18030") + text.encode())
    policy = TrustPolicy.from_file(file)
    assert policy.missing(["审计厅"]) == ["#民政局"]
    assert policy.satisfied_by({"审计厅", "#民政局"})
    file.write_bytes(text.encode().replace("审计厅.example".encode(), "审计厅.example".encode("gb18030")))
    with pytest.raises(PolicyError, match="line 1"):
        TrustPolicy.from_file(file)


def test_many_logs_witnesses_and_groups_nest() -> None:
    names = [f"w{number}" for number in range(100)]
    lines = [f"witness {name} {Cosigner.generate(name).verifier.vkey}" for name in names]
    lines += [f"log {NoteSigner.generate(name).verifier.vkey}" for name in names]
    lines.append("group g0 all w0")
    lines += [f"group g{number} all w{number} g{number - 1}" for number in range(1, 100)]
    policy = TrustPolicy.from_text("\n".join([*lines, "quorum g99", ""]))
    assert len(policy.logs) == 100
    assert policy.satisfied_by(names)
    assert policy.missing(names[1:]) == ["w0"]


def test_more_than_is_supported_is_refused() -> None:
    lines = "".join([f"witness w{n} {Cosigner.generate(f'w{n}').verifier.vkey}\n" for n in range(257)])
    with pytest.raises(PolicyError, match="line 257"):
        TrustPolicy.from_text(lines + "quorum none\n")


def test_a_policy_finds_its_witnesses_in_a_note_by_their_keys() -> None:
    """Names of the policy may differ from the names of the keys, and keys may share a name."""
    one, two = Cosigner.generate("w.example"), Cosigner.generate("w.example")
    policy = TrustPolicy.from_text(
        f"witness audit {one.verifier.vkey}\nwitness bureau {two.verifier.vkey}\ngroup g all audit bureau\nquorum g\n"
    )
    checkpoint = Checkpoint("log.example/datong", 7, hash_leaf(b"root"))
    note = checkpoint.signed(LOG)
    assert policy.cosigned(note) == {}
    note += two.cosign(checkpoint.text, 100)
    assert policy.cosigned(note) == {"bureau": 100}
    note += one.cosign(checkpoint.text, 101)
    assert policy.satisfied_by(policy.cosigned(note))
    with pytest.raises(NoteError):
        policy.cosigned(note + one.cosign(checkpoint.text.replace("7", "8", 1), 101))


@st.composite
def policies(draw: st.DrawFn) -> tuple[str, dict[str, tuple[int, list[str]]], str]:
    """A policy over six witnesses, its groups as (threshold, members), and its quorum."""
    free = [f"w{number}" for number in range(6)]
    names = free.copy()
    lines = [f"witness {name} {vkey}" for name, vkey in zip(names, V, strict=True)]
    groups: dict[str, tuple[int, list[str]]] = {}
    for number in range(draw(st.integers(0, 5))):
        members = draw(st.lists(st.sampled_from(free), min_size=1, max_size=4, unique=True)) if free else []
        if not members:
            break
        threshold = draw(st.integers(1, len(members)))
        spelled = {len(members): "all", 1: "any"} if draw(st.booleans()) else {}
        name = f"g{number}"
        lines.append(f"group {name} {spelled.get(threshold, threshold)} {' '.join(members)}")
        groups[name] = threshold, members
        free = [one for one in free if one not in members] + [name]
        names.append(name)
    quorum = draw(st.sampled_from([*names, "none"]))
    return "\n".join([*lines, f"quorum {quorum}", ""]), groups, quorum


@settings(max_examples=100, deadline=None)
@given(policies())
def test_quorums_agree_with_counting_by_hand(drawn: tuple[str, dict[str, tuple[int, list[str]]], str]) -> None:
    text, groups, quorum = drawn
    policy = TrustPolicy.from_text(text)

    def witnessed(name: str, by: set[str]) -> bool:
        if name not in groups:
            return name in by
        threshold, members = groups[name]
        return [witnessed(member, by) for member in members].count(True) >= threshold

    names = [f"w{number}" for number in range(6)]
    for mask in range(64):
        by = {name for number, name in enumerate(names) if mask >> number & 1}
        enough = quorum == "none" or witnessed(quorum, by)
        assert policy.satisfied_by(by) == enough
        missing = policy.missing(by)
        assert bool(missing) == (not enough)
        assert not by & set(missing)
        assert policy.satisfied_by(by | set(missing))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["log", "witness", "group", "quorum", "none", "a", "b", "any", "all", "1", "\t", " ", "\n", "#", V[0]]
        )
    )
)
def test_no_text_is_read_in_a_way_that_fails_otherwise(words: list[str]) -> None:
    try:
        policy = TrustPolicy.from_text(" ".join(words) + "\n")
    except PolicyError:
        return
    assert policy.satisfied_by([one.name for one in policy.witnesses]) in (True, False)
