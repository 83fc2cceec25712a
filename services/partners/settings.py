"""Settings of the partners service: nothing beyond what every service has."""

from typing import ClassVar

from libs.chassis.settings import Settings as ChassisSettings


class Settings(ChassisSettings):
    service: ClassVar[str] = "partners"
