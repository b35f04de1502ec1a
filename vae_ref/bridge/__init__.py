"""Join the kit and what it judges: the reference as a subject, images, trained weights.

The conformance kit imports nothing that it judges. Code that has to import both is here.
"""
