#!/usr/bin/env python3
"""Facts about an API from its Swagger document: which operations there are, what they take, and what their answers hold.

    facts.py swagger.yaml > docker-1.56.facts

Names and kinds alone, a fact a line; no text of the document gets into it.

    operation GET /containers/json [Container]
      query all boolean
      header X-Registry-Auth string
      body ContainerCreateBody
      status 200 [ContainerSummary
      status 404
    type ContainerSummary
      Id string
      Names [string          a list
      Labels {string         a map
      Mounts !?[MountPoint   required, and may be null
"""
import sys
import yaml

# What belongs to a swarm or to plugins is refused as a whole: only its operations' names are kept.
WHOLE = {"Swarm", "Node", "Service", "Task", "Secret", "Config", "Plugin"}

document = yaml.safe_load(open(sys.argv[1]))
types, wanted, done = {}, [], set()


def resolve(schema):
    name = schema["$ref"].rsplit("/", 1)[1]
    return name, document["definitions"][name]


def fields_of(schema, name, into):
    """The fields of an object, those of the parts of `allOf` included."""
    for part in schema.get("allOf", []):
        inner = resolve(part)[1] if "$ref" in part else part
        fields_of(inner, name, into)
    required = set(schema.get("required", []))
    for field, inner in (schema.get("properties") or {}).items():
        mark = "!" if field in required else ""
        into[field] = mark + ("?" if inner.get("x-nullable") else "") + kind(inner, f"{name}.{field}")


def kind(schema, name):
    if schema is None:
        return "any"
    if "$ref" in schema:
        name, target = resolve(schema)
        if is_object(target):
            wanted.append((name, target))
            return name
        return ("?" if target.get("x-nullable") else "") + kind(target, name)
    if is_object(schema):
        wanted.append((name, schema))
        return name
    if schema.get("type") == "array":
        return "[" + kind(schema.get("items"), name).lstrip("?")
    if schema.get("type") == "object":
        extra = schema.get("additionalProperties")
        return "{" + (kind(extra, name) if isinstance(extra, dict) and extra else "any")
    # One of `allOf` that is no object is a word among a few.
    return schema.get("type") or ("string" if schema.get("allOf") else "any")


def is_object(schema):
    def of_part(part):
        return is_object(resolve(part)[1] if "$ref" in part else part)

    return bool(schema.get("properties")) or any(of_part(part) for part in schema.get("allOf", []))


print(f"version {document['info']['version']}")
for path in sorted(document["paths"]):
    for method in sorted(document["paths"][path]):
        operation = document["paths"][path][method]
        tag = operation.get("tags", ["?"])[0]
        print(f"operation {method.upper()} {path} {tag}")
        if tag in WHOLE:
            continue
        title = operation["operationId"]
        for parameter in operation.get("parameters", []):
            place = parameter["in"]
            if place == "path":
                continue
            if place == "body":
                print(f"  body {kind(parameter['schema'], title + 'Body')}")
            else:
                print(f"  {place} {parameter['name']} {parameter['type']}")
        for status, answer in sorted(operation["responses"].items(), key=lambda pair: str(pair[0])):
            schema = answer.get("schema")
            shape = kind(schema, title + "Answer") if schema and int(status) < 300 else ""
            print(f"  status {status} {shape}".rstrip())
while wanted:
    name, schema = wanted.pop(0)
    if name in done:
        continue
    done.add(name)
    types[name] = {}
    fields_of(schema, name, types[name])
for name in sorted(types):
    print(f"type {name}")
    for field, shape in types[name].items():
        print(f"  {field} {shape}")
