"""What follows from the addresses at which a portal is reached."""

import pytest

from wardgate.portal.channels.views import flow_logs_setting
from wardgate.portal.settings import PortalSettings


@pytest.mark.parametrize(
    ("external_url", "rest_host", "api_url", "interval_s"),
    [
        ("https://portal.example.org", None, "https://portal.example.org/", 30),
        ("https://portal.example.org:443", None, "https://portal.example.org:443/", 30),
        ("https://portal.example.org", "api.example.org", "https://api.example.org/", 30),
        ("https://portal.example.org:8443", None, "https://portal.example.org:8443/", 0),
        ("http://portal.example.org", None, "http://portal.example.org/", 0),
        ("http://127.0.0.1:8080", None, "http://127.0.0.1:8080/", 0),
    ],
)
def test_peers_are_told_to_upload_only_where_an_uploader_gets(
    external_url: str, rest_host: str | None, api_url: str, interval_s: int
) -> None:
    settings = PortalSettings(
        external_url=external_url, rest_host=rest_host, flow_log_upload_interval_s=30, flow_log_batch_size=7
    )
    told = flow_logs_setting(settings, "Debian/12 gateway/1.6.1 (x86_64; 6.8.0)")
    assert (told.api_url, told.upload_interval_secs, told.upload_batch_size) == (api_url, interval_s, 7)
    ours = flow_logs_setting(settings, "Debian/12 gateway/1.6.1 (x86_64; 6.8.0; Wardgate/0.1.0)")
    assert (ours.api_url, ours.upload_interval_secs) == (api_url, 30), "ours upload to any address"
