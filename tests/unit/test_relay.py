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


@pytest.mark.parametrize("running, since", [(False, 1.0), (True, 0.0)])
def test_it_parks_where_the_leader_is_there(running, since):
    relay = leading(running, since)
    # Not a figure that a slow machine makes wrong: the clock is read after this.
    relay.leader.started += 3600 if running else 0
    assert not is_long(relay.leader)
    assert relay.succeed() == 0 and relay.epoch == 0
