"""The fictitious service as a program: `python -m tests.chassis.one_service [command]`."""

from libs.chassis.serve import main
from tests.chassis.answering import service

if __name__ == "__main__":
    main(service())
