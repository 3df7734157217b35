"""`wardgate admin`: everything that an administrator or operator may do, over REST and nothing else."""


def main(arguments: list[str]) -> None:
    """Run `wardgate admin`; what completion asks for needs no HTTP client, so that is loaded here.

    Raises:
        UserError: it failed; the message is one line.
    """
    from wardgate.cli.admin.execution import run

    run(arguments)
