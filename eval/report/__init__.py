"""The page that a model owner reads: measurements and evidence in, HTML or Markdown out."""

from eval.report.html import render_html
from eval.report.machine import to_json
from eval.report.markdown import render_markdown
from eval.report.page import Candidate, Page, Pair, Privacy

__all__ = ["Candidate", "Page", "Pair", "Privacy", "render_html", "render_markdown", "to_json"]
