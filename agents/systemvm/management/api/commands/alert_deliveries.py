# SPDX-License-Identifier: Apache-2.0
"""listAlertDeliveries: whether alerts reach their e-mail addresses and webhook; an addition."""

from __future__ import annotations

from systemvm.management.alerts.delivery import AlertDelivery, DeliveryState
from systemvm.management.api.answers.alert_deliveries import AlertDeliveryAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.principal import ADMIN_ONLY


class AlertDeliveryCommands:
    """It is for administrators only, as the alerts are."""

    def __init__(self, delivery: AlertDelivery) -> None:
        self._delivery = delivery

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listAlertDeliveries", paged(self._list),
                "Lists the ways out of alerts that are set, and whether they work.", AlertDeliveryAnswer,
                "alertdelivery", ResponseShape.LIST, (), ADMIN_ONLY, related=("listAlerts",),
            ),
        )  # fmt: skip

    async def _list(self, call: ApiCall) -> list[AlertDeliveryAnswer]:
        return [
            _answer(each)
            for each in await self._delivery.states()
            if matches_keyword(call.arguments, each.way.name, each.way.target)
        ]


def _answer(state: DeliveryState) -> AlertDeliveryAnswer:
    delivery = state.delivery
    failures = 0 if delivery is None else delivery.failures
    return AlertDeliveryAnswer(
        name=state.way.name,
        target=state.way.target,
        state="failing" if failures else "waiting" if state.waiting else "idle",
        waiting=state.waiting,
        failures=failures,
        reason=None if delivery is None else delivery.reason,
        hint=None if delivery is None else delivery.hint,
        nexttry=delivery.next_try if delivery is not None and failures else None,
        delivered=None if delivery is None else delivery.succeeded,
    )
