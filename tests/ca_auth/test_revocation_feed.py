"""CRLs that are dropped in: when they count, and what does not move them."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from ca_auth.profiles.trust import Trust
from ca_auth.revocation.revocation_feed import Alarm, RevocationFeed
from ca_auth.validation.crl import RevocationList, load_crls
from tests.ca_auth.revocation_world import CA, DAY, HOUR, World, with_revocation
from tests.waiting import until


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def kinds(feed: RevocationFeed) -> list[str]:
    return sorted(alarm.kind for alarm in feed.alarms())


def alarm_of(feed: RevocationFeed, kind: str) -> Alarm:
    return next(alarm for alarm in feed.alarms() if alarm.kind == kind)


async def several_looks(feed: RevocationFeed, world: World, count: int = 4) -> None:
    """Return when the feed has looked at its files `count` times more: after that, nothing more comes of what lies there."""
    looks = 0
    look = feed._look

    async def counted() -> None:
        nonlocal looks
        await look()
        looks += 1

    feed._look = counted  # type: ignore[method-assign]
    await until(lambda: looks >= count)
    feed._look = look  # type: ignore[method-assign]


def held_lists(world: World) -> list[RevocationList]:
    return [each for file in (world.state / "held").glob("*.crl") for each in load_crls(file.read_bytes())]


# Files


async def test_a_list_that_is_there_at_the_start_counts_at_once(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at, [world.leaf]))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
        assert feed.alarms() == ()


@pytest.mark.parametrize("pem", [True, False])
async def test_a_list_that_is_dropped_in_bites_within_three_seconds(world: World, pem: bool) -> None:
    world.drop("root.crl", world.root.crl(1, world.at))
    anchor = world.anchor()
    async with world.feed(anchor, look_seconds=1.0) as feed:
        assert world.rule(feed, anchor, world.leaf) == "crl"
        before, began = world.changes, time.monotonic()
        world.drop("root.crl", world.root.crl(2, world.at, [world.leaf], pem=pem))
        await until(lambda: world.changes > before)
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
        assert time.monotonic() - began < 3.0


async def test_data_stay_the_same_object_while_nothing_changes(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        await until(lambda: world.changes > 0)
        data, changes = feed.data(anchor), world.changes
        await several_looks(feed, world)
        (world.crls / "root.crl").touch()
        await several_looks(feed, world)
        assert feed.data(anchor) is data
        assert world.changes == changes


async def test_many_lists_at_once_are_one_change(world: World) -> None:
    anchor = world.anchor()
    cas = [CA.create(f"CA {place}", world.at) for place in range(5)]
    anchor = replace(anchor, certificates=tuple(ca.certificate for ca in cas))
    for place, ca in enumerate(cas):
        world.drop(f"{place}.crl", ca.crl(1, world.at))
    async with world.feed(anchor):
        await until(lambda: world.changes > 0)
        assert world.changes == 1


async def test_a_single_file_is_followed_before_it_exists(world: World) -> None:
    file = world.crls / "root.crl"
    anchor = world.anchor(crl_paths=(file,))
    async with world.feed(anchor) as feed:
        assert kinds(feed) == ["crl-missing", "crl-unreachable"]
        assert world.rule(feed, anchor, world.leaf) == "crl-missing"
        world.drop("root.crl", world.root.crl(1, world.at))
        await until(lambda: world.rule(feed, anchor, world.leaf) == "crl" and not feed.alarms())


async def test_what_is_half_written_changes_nothing_and_counts_when_it_is_whole(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at))
    anchor = world.anchor()
    whole = world.root.crl(2, world.at, [world.leaf])
    async with world.feed(anchor) as feed:
        with (world.crls / "root.crl").open("wb") as stream:
            stream.write(whole[:100])
            stream.flush()
            await until(lambda: kinds(feed) == ["crl-rejected"])
            assert world.rule(feed, anchor, world.leaf) == "crl"
            stream.write(whole[100:])
        await until(lambda: world.rule(feed, anchor, world.leaf) == "certificate-revoked")
        await until(lambda: not feed.alarms())


async def test_a_list_of_an_unknown_ca_stays_while_its_file_is_rewritten(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at))
    file = world.drop("sub.crl", world.sub.crl(1, world.at))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, world.sub_leaf) == "crl"
        file.write_bytes(b"")
        await until(lambda: kinds(feed) == ["crl-rejected"])
        assert world.rule(feed, anchor, world.sub_leaf) == "crl"


@pytest.mark.parametrize(
    "content", [b"", b"\x30\x82", b"hello", b"-----BEGIN X509 CRL-----\n????\n-----END X509 CRL-----\n"]
)
async def test_rubbish_is_an_alarm_and_changes_nothing(world: World, content: bytes) -> None:
    world.drop("root.crl", world.root.crl(1, world.at))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        data = feed.data(anchor)
        world.drop("rubbish.crl", content)
        await until(lambda: kinds(feed) == ["crl-rejected"])
        alarm = alarm_of(feed, "crl-rejected")
        assert alarm.source == str(world.crls / "rubbish.crl")
        assert "rubbish.crl" in alarm.text
        assert alarm.text_zh
        assert feed.data(anchor) is data
        (world.crls / "rubbish.crl").unlink()
        await until(lambda: not feed.alarms())


async def test_folders_and_pipes_within_a_folder_are_passed_over(world: World) -> None:
    (world.crls / "folder").mkdir()
    os.mkfifo(world.crls / "pipe")
    world.drop("root.crl", world.root.crl(1, world.at))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, world.leaf) == "crl"
        assert feed.alarms() == ()


# Numbers


async def test_removing_a_file_does_not_forget_what_it_said(world: World) -> None:
    file = world.drop("root.crl", world.root.crl(1, world.at, [world.leaf]))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        file.unlink()
        await several_looks(feed, world)
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
        assert feed.alarms() == ()
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("number", [1, 4, 5])
async def test_an_older_or_another_list_of_the_same_number_never_displaces(
    world: World, number: int, restart: bool
) -> None:
    world.drop("root.crl", world.root.crl(5, world.at, [world.leaf]))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        older = world.root.crl(number, world.at - HOUR if number < 5 else world.at, life=30 * DAY)
        if not restart:
            world.drop("root.crl", older)
            await until(lambda: kinds(feed) == ["crl-rejected"])
            assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
    world.drop("root.crl", older)
    async with world.feed(anchor) as feed:
        assert kinds(feed) == ["crl-rejected"]
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"


async def test_an_older_list_with_a_longer_life_does_not_undo_a_newer_one_that_ran_out(world: World) -> None:
    world.drop("1.crl", world.root.crl(1, world.at, life=60 * DAY))
    world.drop("2.crl", world.root.crl(2, world.at, [world.leaf], life=DAY))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        world.clock.pass_time(2 * DAY)
        await several_looks(feed, world)
        assert world.rule(feed, anchor, world.leaf) == "crl-stale"
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, world.leaf) == "crl-stale"


async def test_a_folder_that_keeps_all_lists_is_no_alarm(world: World) -> None:
    for number in range(1, 6):
        at = world.at - (6 - number) * HOUR
        world.drop(f"{number}.crl", world.root.crl(number, at, [world.leaf] if number == 5 else []))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
        assert feed.alarms() == ()
        data = feed.data(anchor)
        assert data is not None
        assert [each.number for each in data.lists] == [5]


async def test_a_forged_list_with_a_huge_number_neither_displaces_nor_blocks(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at, [world.leaf]))
    anchor = world.anchor()
    other = world.root.leaf(world.at)
    async with world.feed(anchor) as feed:
        world.drop("forged.crl", world.root.crl(10**30, world.at, [other], key=world.forger))
        await until(lambda: kinds(feed) == ["crl-rejected"])
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
        assert world.rule(feed, anchor, other) == "crl"
        world.drop("root.crl", world.root.crl(2, world.at, [world.leaf, other]))
        await until(lambda: world.rule(feed, anchor, other) == "certificate-revoked")
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, other) == "certificate-revoked"


async def test_a_tampered_state_folder_decides_nothing(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at, [world.leaf]))
    anchor = world.anchor()
    async with world.feed(anchor):
        pass
    (held,) = (world.state / "held").glob("*.crl")
    held.write_bytes(world.root.crl(99, world.at, key=world.forger))
    (world.state / "held" / "zz.crl").write_bytes(b"rubbish")
    (world.state / "cas.pem").write_bytes(b"rubbish")
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"


async def test_two_cas_of_one_name_do_not_displace_each_other(world: World) -> None:
    twin = CA.create("Test Root", world.at)
    leaf = twin.leaf(world.at)
    anchor = replace(world.anchor(), certificates=(world.root.certificate, twin.certificate))
    world.drop("root.crl", world.root.crl(1, world.at, [world.leaf]))
    world.drop("twin.crl", twin.crl(1000, world.at))
    async with world.feed(anchor) as feed:
        assert feed.alarms() == ()
        assert world.rule(feed, anchor, leaf) == "crl"
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"


async def test_a_list_from_the_future_is_an_alarm_and_counts_when_its_time_has_come(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at))
    world.drop("future.crl", world.root.crl(9, world.at + HOUR, [world.leaf]))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        assert kinds(feed) == ["crl-rejected"]
        assert world.rule(feed, anchor, world.leaf) == "crl"
        world.clock.pass_time(HOUR)
        await until(lambda: world.rule(feed, anchor, world.leaf) == "certificate-revoked" and not feed.alarms())


async def test_a_list_with_a_signature_that_is_not_accepted_takes_no_place(world: World) -> None:
    """With a weak hash, somebody might make one up that a CA signed as something else."""
    world.drop("good.crl", world.root.crl(1, world.at))
    world.drop("weak.crl", world.root.crl(7, world.at, algorithm=hashes.SHA224()))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        assert kinds(feed) == ["crl-rejected"]
        assert world.rule(feed, anchor, world.leaf) == "crl"
    assert [each.number for each in held_lists(world)] == [1]


# CAs below the anchor


async def test_the_list_of_a_sub_ca_counts_before_it_is_learned_and_is_held_after(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at))
    file = world.drop("sub.crl", world.sub.crl(5, world.at, [world.sub_leaf]))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, world.sub_leaf) == "certificate-revoked"
        feed.learn([world.sub.certificate, world.root.certificate])
        await until(lambda: len(held_lists(world)) == 2)
        file.unlink()
        await several_looks(feed, world)
        assert world.rule(feed, anchor, world.sub_leaf) == "certificate-revoked"
        world.drop("sub.crl", world.sub.crl(4, world.at - HOUR))
        await until(lambda: kinds(feed) == ["crl-rejected"])
        assert world.rule(feed, anchor, world.sub_leaf) == "certificate-revoked"
    async with world.feed(anchor) as feed:  # it remembers the CA, too
        assert kinds(feed) == ["crl-rejected"]
        assert world.rule(feed, anchor, world.sub_leaf) == "certificate-revoked"


async def test_learning_the_same_again_changes_nothing(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        feed.learn([world.sub.certificate])
        await until(lambda: (world.state / "cas.pem").exists())
        stamp, changes = (world.state / "cas.pem").stat().st_mtime_ns, world.changes
        for _ in range(100):
            feed.learn([world.sub.certificate, world.leaf])
        await several_looks(feed, world)
        assert (world.state / "cas.pem").stat().st_mtime_ns == stamp
        assert world.changes == changes


# Time


async def test_a_list_works_until_its_end_and_then_refuses(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at, life=7 * DAY))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        path = world.verdict(feed, anchor, world.leaf)
        assert path.until == (world.at + 7 * DAY).timestamp()
        world.clock.pass_time(7 * DAY)
        assert world.rule(feed, anchor, world.leaf) == "crl"
        world.clock.pass_time(timedelta(seconds=1))
        assert world.rule(feed, anchor, world.leaf) == "crl-stale"


async def test_a_grace_period_is_used_only_if_it_is_set_and_says_so(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at, [world.leaf], life=7 * DAY))
    good = world.root.leaf(world.at)
    anchor = world.anchor(grace=timedelta(hours=6))
    async with world.feed(anchor) as feed:
        world.clock.pass_time(7 * DAY + 3 * HOUR)
        await until(lambda: kinds(feed) == ["in-grace"])
        assert world.rule(feed, anchor, good) == "grace"
        assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
        world.clock.pass_time(4 * HOUR)
        await until(lambda: kinds(feed) == ["crl-stale"])
        assert world.rule(feed, anchor, good) == "crl-stale"


async def test_alarms_come_a_day_before_by_themselves_once_and_go_when_a_new_list_comes(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at, life=7 * DAY))
    anchor = world.anchor()
    with capture_logs() as logs:
        async with world.feed(anchor) as feed:
            world.clock.pass_time(6 * DAY - timedelta(minutes=1))
            await several_looks(feed, world)
            assert feed.alarms() == ()
            world.clock.pass_time(timedelta(minutes=2))
            await until(lambda: kinds(feed) == ["crl-ends-soon"])
            alarm = alarm_of(feed, "crl-ends-soon")
            assert alarm.anchor == "test"
            assert "Test Root" in alarm.source
            assert alarm.since == pytest.approx(world.clock() - 60)
            world.clock.pass_time(DAY)
            await until(lambda: kinds(feed) == ["crl-stale"])
            await several_looks(feed, world)
            world.drop("root.crl", world.root.crl(2, world.at))
            await until(lambda: not feed.alarms())
            assert world.rule(feed, anchor, world.leaf) == "crl"
    told = [(log["event"], log["kind"]) for log in logs if log["event"].startswith("revocation.alarm")]
    assert told == [
        ("revocation.alarm", "crl-ends-soon"),
        ("revocation.alarm", "crl-stale"),
        ("revocation.alarm_over", "crl-ends-soon"),
        ("revocation.alarm_over", "crl-stale"),
    ]


async def test_short_lived_lists_are_no_alarm_in_the_first_half_of_their_life(world: World) -> None:
    world.drop("root.crl", world.root.crl(1, world.at, life=2 * HOUR))
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        assert feed.alarms() == ()
        world.clock.pass_time(HOUR + timedelta(minutes=1))
        await until(lambda: kinds(feed) == ["crl-ends-soon"])


# What the trust file asks for


async def test_without_sources_revocation_is_not_checked(world: World) -> None:
    anchor = world.anchor(crl_paths=(), required=False)
    async with world.feed(anchor) as feed:
        assert feed.data(anchor) is None
        assert feed.alarms() == ()
        assert not feed.needs_preparing("00" * 32)


async def test_required_news_that_are_missing_refuse_and_others_do_not(world: World) -> None:
    required, optional = world.anchor(), world.anchor(required=False)
    async with world.feed(required) as feed:
        assert world.rule(feed, required, world.leaf) == "crl-missing"
        assert kinds(feed) == ["crl-missing"]
    with capture_logs() as logs:
        async with world.feed(optional) as feed:
            assert world.rule(feed, optional, world.leaf) == "unchecked"
            assert kinds(feed) == ["crl-missing"]
            world.drop("root.crl", world.root.crl(1, world.at, [world.leaf]))
            await until(lambda: world.rule(feed, optional, world.leaf) == "certificate-revoked")
    assert [log["event"] for log in logs if log["event"] in ("revocation.unchecked", "revocation.checked")] == [
        "revocation.unchecked",
        "revocation.checked",
    ]


def test_before_the_start_required_news_refuse(world: World) -> None:
    anchor = world.anchor()
    feed = RevocationFeed(Trust(anchors=(anchor,)), world.state, on_change=lambda: None)
    assert world.rule(feed, anchor, world.leaf) == "crl-missing"


async def test_a_changed_trust_file_is_followed(world: World, tmp_path: Path) -> None:
    world.drop("root.crl", world.root.crl(1, world.at))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "root.crl").write_bytes(world.root.crl(2, world.at, [world.leaf]))
    anchor = world.anchor()
    moved = with_revocation(anchor, crl_paths=(elsewhere,), grace=HOUR)
    async with world.feed(anchor) as feed:
        assert world.rule(feed, anchor, world.leaf) == "crl"
        before = world.changes
        feed.set_trust(Trust(anchors=(moved,)))
        await until(lambda: world.rule(feed, moved, world.leaf) == "certificate-revoked")
        await until(lambda: world.changes > before)
        data = feed.data(moved)
        assert data is not None
        assert data.grace == HOUR
        stricter = with_revocation(anchor, crl_paths=(), crl_urls=("http://127.0.0.1:1/x",), required=True)
        renamed = replace(stricter, name="renamed")
        feed.set_trust(Trust(anchors=(renamed,)))
        await until(lambda: "crl-unreachable" in kinds(feed))
        # What the CA has said is not forgotten because its source or the anchor's name changed.
        assert world.rule(feed, renamed, world.leaf) == "certificate-revoked"


async def test_news_become_required_at_once(world: World) -> None:
    anchor = world.anchor(required=False)
    async with world.feed(anchor) as feed:
        assert feed.data(anchor) is None
        required = with_revocation(anchor, required=True)
        feed.set_trust(Trust(anchors=(required,)))
        assert world.rule(feed, required, world.leaf) == "crl-missing"


# Processes and disks


async def test_two_processes_share_a_folder_and_the_newer_list_stays(world: World, tmp_path: Path) -> None:
    anchor = world.anchor()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = with_revocation(anchor, crl_paths=(elsewhere,))
    async with world.feed(anchor) as first, world.feed(other) as second:
        world.drop("root.crl", world.root.crl(9, world.at, [world.leaf]))
        await until(lambda: world.rule(first, anchor, world.leaf) == "certificate-revoked")
        (elsewhere / "root.crl").write_bytes(world.root.crl(3, world.at - HOUR))
        await until(lambda: world.rule(second, other, world.leaf) == "certificate-revoked")
    assert [each.number for each in held_lists(world)] == [9]
    async with world.feed(other) as feed:
        assert world.rule(feed, other, world.leaf) == "certificate-revoked"


async def test_a_state_folder_that_cannot_be_written_is_told_and_the_lists_count(world: World) -> None:
    world.state.write_bytes(b"a file where the folder should be")
    world.drop("root.crl", world.root.crl(1, world.at, [world.leaf]))
    anchor = world.anchor()
    with capture_logs() as logs:
        async with world.feed(anchor) as feed:
            assert world.rule(feed, anchor, world.leaf) == "certificate-revoked"
    assert {"revocation.state_not_read", "revocation.state_not_saved"} <= {log["event"] for log in logs}


async def test_a_large_list_does_not_stop_the_event_loop(world: World) -> None:
    builder = x509.CertificateRevocationListBuilder().issuer_name(world.root.certificate.subject)
    builder = builder.last_update(world.at).next_update(world.at + DAY).add_extension(x509.CRLNumber(1), False)
    entries = [
        x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(world.at).build()
        for serial in (*range(1, 50_000), world.leaf.serial_number)
    ]
    builder._revoked_certificates = entries  # adding them one by one copies the list each time
    large = builder.sign(world.root.key, hashes.SHA256()).public_bytes(Encoding.DER)
    anchor = world.anchor()
    async with world.feed(anchor) as feed:
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            while True:
                began = time.monotonic()
                await asyncio.sleep(0.005)
                longest = max(longest, time.monotonic() - began)

        watching = asyncio.create_task(watch())
        world.drop("root.crl", large)
        await until(lambda: world.rule(feed, anchor, world.leaf) == "certificate-revoked")
        watching.cancel()
        assert longest < 0.5
