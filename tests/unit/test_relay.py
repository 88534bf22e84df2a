"""Who leads: appointed threads do, and one whose long request ends while the leader is in another."""
import threading
import time

import pytest

from luafcgid2.relay import LONG, Relay, is_long
from luafcgid2.seat import Seat


def leading(running, since):
    """A relay whose leader runs a script, or none, since so many seconds."""
    relay, seat = Relay(), Seat(0)
    seat.state, seat.started = object() if running else None, time.monotonic() - since
    relay.leader = seat
    return relay


def test_nobody_is_appointed_where_nobody_is_parked():
    relay = Relay()
    assert not relay.appoint() and relay.epoch == 0


def test_a_parked_thread_leads_in_the_epoch_of_its_appointment():
    relay, found = Relay(), []
    thread = threading.Thread(target=lambda: found.append(relay.park()))
    thread.start()
    while not relay.appoint():
        time.sleep(0.001)
    thread.join(10)
    assert found == [relay.epoch] == [1] and relay.leader is None
    assert not relay.appoint()


def test_who_ends_a_long_request_leads_again_while_the_leader_is_in_one():
    relay = leading(True, 2 * LONG)
    assert relay.succeed() == relay.epoch == 1
    # Whoever else ends one now parks: somebody is about to lead.
    assert relay.succeed() == 0


def burn(seconds):
    """Take so much processor time in this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def mine():
    """The seat of this thread."""
    seat = Seat(0)
    seat.ident, seat.native = threading.get_ident(), threading.get_native_id()
    return seat


def test_a_script_that_gets_little_of_a_busy_processor_is_seen_to_compute_all_the_same():
    relay, seat = Relay(), mine()
    assert not relay.is_stuck(seat)
    for _ in range(4):
        # Less than LONG from look to look.
        burn(LONG / 2)
        found = relay.is_stuck(seat)
    assert found


def test_another_request_of_the_thread_begins_anew():
    relay, seat = Relay(), mine()
    for _ in range(8):
        assert not relay.is_stuck(seat)
        burn(LONG / 2)
        seat.serial += 1


def test_a_thread_that_waits_is_stuck():
    relay, seat, ready, go = Relay(), Seat(0), threading.Event(), threading.Event()

    def sit():
        seat.ident, seat.native = threading.get_ident(), threading.get_native_id()
        ready.set()
        go.wait(10)
    thread = threading.Thread(target=sit)
    thread.start()
    ready.wait(10)
    deadline = time.monotonic() + 10
    while not relay.is_stuck(seat) and time.monotonic() < deadline:
        time.sleep(0.001)
    found = relay.is_stuck(seat)
    go.set()
    thread.join(10)
    assert found


@pytest.mark.parametrize("running, since", [(False, 1.0), (True, 0.0)])
def test_it_parks_where_the_leader_is_there(running, since):
    relay = leading(running, since)
    # Not a figure that a slow machine makes wrong: the clock is read after this.
    relay.leader.started += 3600 if running else 0
    assert not is_long(relay.leader)
    assert relay.succeed() == 0 and relay.epoch == 0
