"""What people read: the table of a metrics document, report.md, and the model card."""
