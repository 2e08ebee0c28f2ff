"""How a report looks: one style sheet for light and dark, for a desk and a telephone."""

STYLE = """
:root { --paper: #fbfaf8; --card: #fff; --ink: #23211e; --soft: #6d6860; --rule: #e2ded6; --own: #0b6e75;
  --stock: #b0661b; --model: #a02860; --good: #2d7a3a; --cold: #f1eee8; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --paper: #171614; --card: #201f1c; --ink: #ece8e1; --soft: #a39c91;
  --rule: #3a3732; --own: #5cc4cc; --stock: #e6a35c; --model: #ee86b4; --good: #7ccb88; --cold: #2a2825; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 1.05rem; margin: 0 0 8px; }
p { margin: 0 0 10px; }
.lead, .note, figcaption, small { color: var(--soft); }
.note, figcaption, small { font-size: .85rem; }
.warn { border-left: 4px solid var(--stock); padding: 6px 12px; background: var(--card); }
.columns { columns: 2 400px; column-gap: 16px; margin-bottom: 16px; }
.note { margin-top: 8px; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 16px; margin: 0 0 16px;
  break-inside: avoid; }
table.roomy { min-width: 600px; }
h3 { font-size: .85rem; font-weight: 400; color: var(--soft); margin: 10px 0 4px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(158px, 1fr)); gap: 12px; margin: 16px 0; }
.tiles div { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 10px 14px; }
.tiles b { display: block; font-size: 1.25rem; line-height: 1.3; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { font-weight: 600; color: var(--soft); }
td.n, th.n { text-align: right; white-space: nowrap; }
td.yes { color: var(--good); font-weight: 600; }
ol.legend { margin: 6px 0 0; padding: 0; list-style: none; font-size: .85rem; columns: 2 190px; column-gap: 16px; }
ol.legend li { break-inside: avoid; display: flex; gap: 6px; }
.legend b { min-width: 1.5em; text-align: right; }
.own b, i.own { color: var(--own); } .stock b, i.stock { color: var(--stock); }
.model b, i.model { color: var(--model); }
i { font-style: normal; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 0; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 12.5px system-ui, sans-serif; fill: var(--ink); }
svg .tick, svg .label { fill: var(--soft); }
svg .end, svg .value { text-anchor: end; } svg .middle { text-anchor: middle; }
svg .value { fill: var(--soft); } svg .number { font-weight: 600; font-size: 12px; }
svg .rule { stroke: var(--rule); } svg .axis { stroke: var(--soft); }
svg polyline { fill: none; } svg .roof { stroke: var(--soft); stroke-width: 2; stroke-dasharray: 6 4; }
svg .series { stroke-width: 2.5; stroke-linejoin: round; }
svg .range { stroke: var(--soft); stroke-width: 2; opacity: .6; }
svg .series.own { stroke: var(--own); } svg .series.model { stroke: var(--model); }
svg .series.stock { stroke: var(--stock); stroke-dasharray: 5 4; }
svg .dot { stroke: var(--card); stroke-width: 1.5; }
svg .dot.own, svg .bar.own { fill: var(--own); } svg .dot.stock, svg .bar.stock { fill: var(--stock); }
svg .dot.model, svg .bar.model { fill: var(--model); }
svg .track, svg .cold { fill: var(--cold); } svg .heat rect:not(.cold) { fill: var(--own); }
@media (max-width: 480px) { main { padding: 16px 10px 32px; } .card { padding: 12px; }
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: 6px; } svg text { font-size: 14px; } }
"""
