"""What joins the judge and the judged: the reference as a subject, its images, its weights.

The conformance kit imports nothing of what it judges; what has to import both lies here.
"""
