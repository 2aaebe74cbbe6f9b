"""One design for all HTML pages: escaped markup, page frame with stylesheet, charts as inline SVG, common sections."""
