app_name = "shop"

override_doctype_class = {
    "Order": "shop.models.Order",
    "Note": "shop.models.Note",
}

before_job = ["shop.tasks.note_start"]
after_job = ["shop.tasks.note_end"]
