"""The pages: ``frappe-jobs web``.  They need the extra ``web``, and no other room loads them."""
