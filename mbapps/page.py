"""The frame of report.html: style without scripts, fonts or anything else to fetch."""

from __future__ import annotations

from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --page: #f6f7f9; --card: #fff; --text: #1c2330; --soft: #5b6577; --line: #e2e6ec; --accent: #2563eb;
  --bar: #dbe7ff; --shadow: 0 1px 2px rgb(20 30 50 / 6%), 0 4px 16px rgb(20 30 50 / 5%) }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1319; --card: #181e27; --text: #e4e8ee; --soft: #97a3b6; --line: #2a323e;
    --accent: #7aa7ff; --bar: #24406f; --shadow: none }
}
* { box-sizing: border-box }
html { scroll-behavior: smooth }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif }
header, main, footer { max-width: 1120px; margin: 0 auto; padding: 0 20px }
header { padding-top: 36px }
h1 { margin: 0; font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; letter-spacing: -.02em }
header p { margin: 6px 0 0; color: var(--soft); overflow-wrap: anywhere }
nav { display: flex; gap: 8px; flex-wrap: wrap; margin: 18px 0 22px }
nav a { padding: 4px 12px; border: 1px solid var(--line); border-radius: 999px; background: var(--card);
  color: var(--text); font-size: .875rem; text-decoration: none }
nav a:hover, nav a:focus-visible { border-color: var(--accent); color: var(--accent) }
section { margin: 0 0 20px; padding: 20px 24px 24px; background: var(--card); border: 1px solid var(--line);
  border-radius: 14px; box-shadow: var(--shadow); scroll-margin-top: 12px }
h2 { margin: 0 0 14px; font-size: 1.125rem; letter-spacing: -.01em }
section > p { margin: -8px 0 14px; color: var(--soft); font-size: .9375rem }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(164px, 1fr)); gap: 10px; margin: 0 }
.tiles div { padding: 10px 14px; border: 1px solid var(--line); border-radius: 10px; background: var(--page) }
dt { color: var(--soft); font-size: .8125rem; overflow-wrap: anywhere }
dd { margin: 0; font-size: 1.1875rem; font-weight: 600; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere }
.wide { overflow: auto; max-height: 560px }
table { width: 100%; border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums }
th, td { padding: 7px 12px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:first-child { text-align: left }
thead th { position: sticky; top: 0; background: var(--card); color: var(--soft); font-weight: 500 }
tbody th { font-weight: 500 }
.bar { background: linear-gradient(90deg, var(--bar) calc(var(--share) * 100%), transparent 0)
  no-repeat 0 50% / 100% 70% }
figure { margin: 0 }
figcaption { color: var(--soft); font-size: .875rem; overflow-wrap: anywhere }
.plot { overflow-x: auto }
.plot svg, .plot img { display: block; width: 100%; height: auto; margin: 0 auto;
  min-width: calc(var(--width) * .7); max-width: var(--width) }
.plot img { border-radius: 8px }
.plot svg text { fill: currentColor }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 16px;
  align-items: start }
.grid label { display: block; position: relative; cursor: zoom-in }
.grid input { position: absolute; opacity: 0 }
.grid img { display: block; width: 100%; height: auto; object-fit: contain; border-radius: 8px }
.grid figcaption { margin-top: 6px }
.grid input:focus-visible + img { outline: 3px solid var(--accent) }
.grid input:checked + img { position: fixed; inset: 0; z-index: 9; width: 100vw; height: 100vh;
  padding: 2vmin; border-radius: 0; background: rgb(8 10 14 / 93%); cursor: zoom-out }
pre { margin: 0; padding: 14px 16px; max-height: 480px; overflow: auto; border: 1px solid var(--line);
  border-radius: 10px; background: var(--page);
  font: .84rem/1.5 ui-monospace, Consolas, "DejaVu Sans Mono", monospace }
footer { padding-bottom: 36px; color: var(--soft); font-size: .8125rem }
@media (max-width: 560px) {
  header, main, footer { padding-left: 12px; padding-right: 12px }
  section { padding: 16px 14px 18px }
  .tiles { grid-template-columns: repeat(auto-fill, minmax(142px, 1fr)) }
  dd { font-size: 1.0625rem }
  .grid { grid-template-columns: repeat(2, 1fr); gap: 10px }
}
@media print {
  nav { display: none }
  section { break-inside: avoid; box-shadow: none }
  .wide, pre { max-height: none }
}
</style>
</head>
<body>
<header><h1>$title</h1><p>$subtitle</p><nav aria-label="Sections">$links</nav></header>
<main>$body</main>
<footer>Written by mbapps $version</footer>
</body>
</html>
""")
