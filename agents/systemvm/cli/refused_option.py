# SPDX-License-Identifier: Apache-2.0
"""Where on the command line a value was given that the daemon refused: its error names the parameter."""

from __future__ import annotations

import click

from systemvm.cli.zone_model import REFERENCES


class NamedValues(click.Argument):
    """The parameters of a command of the API as NAME=VALUE; `first` is the one that NAME before them is."""

    def __init__(self, name: str, metavar: str, first: str) -> None:
        super().__init__([name], nargs=-1, metavar=metavar)
        self.first = first

    def place_of(self, parameter: str) -> str:
        if parameter == self.first:
            return "NAME"
        named = (name for name, (_, of) in REFERENCES.items() if of == parameter)
        return f"{next(named, parameter)}="


def refused_option(command: click.Command, parameter: str) -> str:
    """Return the option or argument of a command that a parameter's value is from; empty without one.

    `--template` is `templateid`, and `--offering` is `diskofferingid` where there is no other offering.
    """
    places: dict[str, str] = {}
    for each in command.params:
        if isinstance(each, NamedValues):
            return each.place_of(parameter)
        for option in each.opts:
            if option.startswith("--") or isinstance(each, click.Argument):
                name = option.removeprefix("--").replace("-", "")
                places[name] = option if option.startswith("--") else option.upper()
    thing = parameter.removesuffix("id")
    for name, place in places.items():
        if name in (parameter, thing) or (name in REFERENCES and REFERENCES[name][1] == parameter):
            return place
    ends = [place for name, place in places.items() if thing.endswith(name)]
    return ends[0] if len(ends) == 1 else ""
