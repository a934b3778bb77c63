# SPDX-License-Identifier: Apache-2.0
"""axe-core, which finds what keeps a page from people with screen readers, keyboards or weak eyes."""

from __future__ import annotations

from importlib.resources import files

from playwright.sync_api import Page

#: WCAG 2.2, levels A and AA.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
#: The only rule whose result can differ with the colours.
_OF_COLOURS = {"type": "rule", "values": ["color-contrast"]}
_RUN = """async (runOnly) => {
  const { violations } = await axe.run({ runOnly, resultTypes: ["violations"] });
  return violations.flatMap(({ id, help, nodes }) => nodes.map(({ target }) => `${id} (${help}): ${target}`));
}"""


def violations(page: Page) -> list[str]:
    """Return what is wrong with the page as it is shown now, each with its rule and its place."""
    _load(page)
    found: list[str] = page.evaluate(_RUN, _RULES)
    return found


def violations_light_and_dark(page: Page) -> list[str]:
    """Return what is wrong with a page of `light-dark()` in its colours of now and in dark ones."""
    found = violations(page)
    use_scheme(page, "dark")
    dark: list[str] = page.evaluate(_RUN, _OF_COLOURS)
    use_scheme(page, "")
    return found + [f"dark: {each}" for each in dark]


def use_scheme(page: Page, scheme: str) -> None:
    """Show a page of `light-dark()` in dark or light colours; "" leaves it to the user's preference."""
    page.evaluate("scheme => { document.documentElement.style.colorScheme = scheme; }", scheme)


def _load(page: Page) -> None:
    if not page.evaluate("'axe' in window"):
        source = files("axe_playwright_python").joinpath("axe.min.js").read_text()
        page.evaluate(f"() => {{ {source} }}")
