import json, marshal
from .errors import SerializationError


class Serializer:
    pass


class JsonSerializer:
    def encode(self, value, *, what="value", types=None):
        try:
            t = json.dumps(value)
        except Exception as e:
            raise SerializationError(f"{what}: {type(value).__name__} at $ is not storable")
        return t, json.loads(t)

    def decode(self, text, *, types=None, lenient=False):
        return json.loads(text)


def known_types(*a):
    return {}
