app_name = "shop"

override_doctype_class = {
    "Order": "shop.models.Order",
    "Note": "shop.models.Note",
}

before_job = ["shop.tasks.note_start"]
after_job = ["shop.tasks.note_end"]

scheduler_events = {
    "all": ["shop.tasks.check_stock"],
    "daily_long": ["shop.tasks.close_day"],
}
