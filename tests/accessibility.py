# SPDX-License-Identifier: Apache-2.0
"""axe-core, which finds what keeps a page from people with screen readers, keyboards or weak eyes."""

from __future__ import annotations

from importlib.resources import files

from playwright.sync_api import Page

#: WCAG 2.2, levels A and AA.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_RUN = """async (rules) => {
  const { violations } = await axe.run({ runOnly: rules, resultTypes: ["violations"] });
  return violations.flatMap(({ id, help, nodes }) => nodes.map(({ target }) => `${id} (${help}): ${target}`));
}"""


def violations(page: Page) -> list[str]:
    """Return what is wrong with the page as it is shown now, each with its rule and its place."""
    if not page.evaluate("'axe' in window"):
        source = files("axe_playwright_python").joinpath("axe.min.js").read_text()
        page.evaluate(f"() => {{ {source} }}")
    found: list[str] = page.evaluate(_RUN, _RULES)
    return found
