"""How fast frappe_jobs is, beside bare Celery and its peers: ``python -m benchmarks``.

Of its rooms each measures one thing; ``rounds`` interleaves what is compared and says how far the
numbers may be trusted; ``contenders`` are the libraries, each in processes of its own.  This
package is also the app that frappe_jobs' own jobs come from.
"""
