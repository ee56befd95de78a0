"""What every operation passes: limits on the document, a cache of documents, masking of errors, accounting."""
from strawberry.extensions import SchemaExtension
class Admission(SchemaExtension):
    pass
