"""Where jobs run: a sites folder of ours (standalone) or a real Frappe."""
