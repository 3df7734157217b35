"""Mail (portal-domain §14): letters, the queue that carries them, and the way to an SMTP server.

`queue.post` puts a letter into a transaction as a job, `delivery.send_mail` is that job, `smtp.SmtpMailer`
the adapter that the environment holds.
"""
