"""The basics that anybody needs who can't see, or has no mouse: names, contrast, focus. As scripts for the page."""

UNNAMED = """
const labels = (e) => (e.getAttribute('aria-labelledby') || '').split(' ');
const refers = (e) => labels(e).some((id) => document.getElementById(id)?.innerText);
const named = (e) => (e.innerText || '').trim() || e.getAttribute('aria-label') || e.title || refers(e)
  || e.labels?.length || e.closest('label');
return [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, progress, [role=img]')]
  .filter((e) => e.getClientRects().length && !e.matches('svg[aria-hidden=true]') && !named(e))
  .map((e) => e.outerHTML.slice(0, 160));
"""
"""Elements that can be used or show something, and have no name."""

FAINT = """
const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return [m[0], m[1], m[2], m[3] ?? 1]; };
const behind = (e) => { for (let n = e; n; n = n.parentElement) { const c = parse(getComputedStyle(n).backgroundColor);
  if (c[3] > 0.99) return c; } return [255, 255, 255, 1]; };
const light = (c) => { const f = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
const found = [];
for (const e of document.querySelectorAll('body *')) {
  if (e.closest('svg, script, style, :disabled, [aria-disabled=true], .js-plotly-plot')) continue;
  if (!e.getClientRects().length) continue;
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
  const a = light(parse(getComputedStyle(e).color)), b = light(behind(e));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${e.outerHTML.slice(0, 120)}`);
}
return found;
"""
"""Text whose contrast to what is behind it is below 4.5 (WCAG 2.1, 1.4.3)."""

OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
"""Pixels by which the page is wider than its window."""
