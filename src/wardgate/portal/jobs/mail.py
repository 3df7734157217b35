"""The job that sends mail (portal-domain §14): one at a time, and with patience, for a mail server that
greylists wants minutes.
"""

from typing import Final

from wardgate.portal.jobs.runner import JobKind
from wardgate.portal.mail.delivery import send_mail
from wardgate.portal.mail.queue import MAX_ATTEMPTS, SEND_MAIL

RETRY_FIRST_S: Final = 300.0

KINDS: Final = (
    JobKind(SEND_MAIL, send_mail, max_attempts=MAX_ATTEMPTS, concurrent=1, retry_first_s=RETRY_FIRST_S),
)
