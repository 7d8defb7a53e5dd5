"""The page that a model owner reads: measurements and evidence in, HTML or Markdown out."""

from eval.report.html import render_html
from eval.report.markdown import render_markdown
from eval.report.page import Candidate, Page, Privacy

__all__ = ["Candidate", "Page", "Privacy", "render_html", "render_markdown"]
