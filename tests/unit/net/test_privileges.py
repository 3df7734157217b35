import errno

import pytest

from wardgate.net.privileges import tunnel_refusal


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (errno.EBUSY, "--interface"),
        (errno.EPERM, "CAP_NET_ADMIN"),
        (errno.ENOENT, "modprobe tun"),
        (errno.EIO, "cannot be opened"),
    ],
)
def test_each_refusal_names_its_cure(code: int, cure: str) -> None:
    assert cure in str(tunnel_refusal(OSError(code, "reason"), "wardgate"))
