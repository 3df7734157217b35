from uuid import UUID

from wardgate.connect.authorization_requests import RENEW_AFTER_S, AuthorizationRequests
from wardgate.model.ids import DeviceId, GatewayId, ResourceId

RESOURCE = ResourceId(UUID(int=9))
A, B, C = (GatewayId(DeviceId(UUID(int=number))) for number in (1, 2, 3))


def test_a_request_is_repeated_at_the_earliest_two_seconds_later() -> None:
    requests = AuthorizationRequests()
    assert requests.is_due(RESOURCE, now=0.0)
    requests.handle_asked(RESOURCE, now=0.0)

    assert not requests.is_due(RESOURCE, now=1.99)
    assert requests.is_due(RESOURCE, now=2.0)


def test_an_answer_closes_the_request() -> None:
    requests = AuthorizationRequests()
    requests.handle_asked(RESOURCE, now=0.0)
    requests.handle_granted(RESOURCE, A)

    assert not requests.is_open(RESOURCE)
    assert requests.is_due(RESOURCE, now=0.1)


def test_a_renewal_is_due_at_once_and_then_spaced_even_if_it_was_granted() -> None:
    requests = AuthorizationRequests()
    requests.handle_asked(RESOURCE, now=0.0)
    requests.handle_granted(RESOURCE, A)
    assert requests.is_renewal_due(RESOURCE, now=0.1)
    requests.handle_asked(RESOURCE, now=0.1, is_renewal=True)
    requests.handle_granted(RESOURCE, A)

    assert not requests.is_renewal_due(RESOURCE, now=RENEW_AFTER_S)
    assert requests.is_renewal_due(RESOURCE, now=0.1 + RENEW_AFTER_S)


def test_a_renewal_waits_for_the_answer_to_what_was_asked_before() -> None:
    requests = AuthorizationRequests()
    requests.handle_asked(RESOURCE, now=0.0)

    assert not requests.is_renewal_due(RESOURCE, now=1.9)


def test_spaced_renewals_do_not_keep_a_packet_from_asking() -> None:
    requests = AuthorizationRequests()
    requests.handle_asked(RESOURCE, now=0.0, is_renewal=True)
    requests.handle_granted(RESOURCE, A)

    assert requests.is_due(RESOURCE, now=0.1)


def test_the_last_gateway_comes_first_then_connected_ones_then_any_seen() -> None:
    requests = AuthorizationRequests()
    for gateway_id, resource in ((A, ResourceId(UUID(int=8))), (C, RESOURCE)):
        requests.handle_granted(resource, gateway_id)

    assert requests.preferred_gateways(RESOURCE, {B}) == (C, B, A)
