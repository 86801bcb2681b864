"""A user's todo list, stored in PostgreSQL.

todo.py migrate    migrates the tables and exits
todo.py            serves the list

DB_URI   postgresql://user:password@host:port/database (required)
USER_ID  owner of the list (required, except for migrate)
TITLE    heading of the page

GET /              the page: the list and a form; POST / adds title=… or ticks off done=<id>
GET /todos         [{"id": 1, "title": "…"}]
POST /todos        {"title": "…"} as JSON, or title=… as a form
DELETE /todos/<id>
GET /healthz       200 if the database responds, else 503
"""

import contextlib
import html
import http.server
import json
import os
import signal
import sys
import urllib.parse

import psycopg2

PORT = 8080
MAX_BODY = 64 * 1024
MAX_TITLE = 500

# The hook that creates the first user also creates the table of users. Older rows belong to the first user.
MIGRATIONS = """
CREATE TABLE IF NOT EXISTS todos (id serial PRIMARY KEY, title text NOT NULL);
ALTER TABLE todos ADD COLUMN IF NOT EXISTS owner integer REFERENCES users;
UPDATE todos SET owner = (SELECT min(id) FROM users) WHERE owner IS NULL;
ALTER TABLE todos ALTER COLUMN owner SET NOT NULL
"""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ font: 1.1rem/1.6 sans-serif; max-width: 32rem; margin: 3rem auto; padding: 0 1rem }}</style>
<h1>{title}</h1>
<form method="post"><ul>{items}</ul></form>
<form method="post">
<input name="title" maxlength="{max_title}" placeholder="What next?" required autofocus>
<button>Add</button>
</form>
"""

ITEM = '<li>{title} <button name="done" value="{id}">done</button></li>'


class Refused(Exception):
    """An error response with a status and a message."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


@contextlib.contextmanager
def database():
    """Opens a connection for one request, so that requests succeed again immediately
    after a database outage."""
    connection = psycopg2.connect(os.environ["DB_URI"], connect_timeout=3)
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def owner():
    return int(os.environ["USER_ID"])


def list_todos():
    with database() as cursor:
        cursor.execute("SELECT id, title FROM todos WHERE owner = %s ORDER BY id", (owner(),))
        return [{"id": id, "title": title} for id, title in cursor]


def add_todo(title):
    title = title.strip() if isinstance(title, str) else ""
    if not title or len(title) > MAX_TITLE or "\0" in title:
        raise Refused(400, f"title must have 1 to {MAX_TITLE} characters")
    with database() as cursor:
        cursor.execute("INSERT INTO todos (owner, title) VALUES (%s, %s) RETURNING id, title", (owner(), title))
        id, title = cursor.fetchone()
        return {"id": id, "title": title}


def delete_todo(id):
    if not id.isascii() or not id.isdigit() or int(id) >= 2**31:
        raise Refused(404, "no such todo")
    with database() as cursor:
        cursor.execute("DELETE FROM todos WHERE owner = %s AND id = %s", (owner(), int(id)))
        if cursor.rowcount == 0:
            raise Refused(404, "no such todo")


class Handler(http.server.BaseHTTPRequestHandler):
    timeout = 10  # for idle clients

    def do_GET(self):
        self.answer(self.get)

    def do_POST(self):
        self.answer(self.post)

    def do_DELETE(self):
        self.answer(self.delete)

    def answer(self, method):
        try:
            method(urllib.parse.urlsplit(self.path).path)
        except Refused as error:
            self.send_json(error.status, {"error": str(error)})
        except psycopg2.Error as error:
            self.send_json(503, {"error": f"database: {error}".strip()})

    def get(self, path):
        if path == "/":
            items = "".join(ITEM.format(id=todo["id"], title=html.escape(todo["title"])) for todo in list_todos())
            title = html.escape(os.environ.get("TITLE") or "Todo")
            self.send(200, "text/html; charset=utf-8", PAGE.format(title=title, items=items, max_title=MAX_TITLE))
        elif path == "/todos":
            self.send_json(200, list_todos())
        elif path == "/healthz":
            list_todos()
            self.send_json(200, {"status": "ok"})
        else:
            raise Refused(404, "no such page")

    def post(self, path):
        if path == "/":
            fields = self.body()
            if "done" in fields:
                # Another request may have deleted it already.
                with contextlib.suppress(Refused):
                    delete_todo(fields["done"])
            else:
                add_todo(fields.get("title"))
            self.send_response(303)
            self.send_header("Location", "/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path == "/todos":
            self.send_json(201, add_todo(self.body().get("title")))
        else:
            raise Refused(404, "no such page")

    def delete(self, path):
        prefix, _, id = path.rpartition("/")
        if prefix != "/todos":
            raise Refused(404, "no such page")
        delete_todo(id)
        self.send_response(204)
        self.end_headers()

    def body(self):
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            raise Refused(413, f"at most {MAX_BODY} bytes")
        try:
            text = self.rfile.read(int(length)).decode()
            if self.headers.get_content_type() == "application/json":
                fields = json.loads(text)
            else:
                fields = dict(urllib.parse.parse_qsl(text))
        except ValueError as error:
            raise Refused(400, f"unreadable body: {error}") from error
        if not isinstance(fields, dict):
            raise Refused(400, "the body must be an object")
        return fields

    def send_json(self, status, value):
        self.send(status, "application/json", json.dumps(value) + "\n")

    def send(self, status, content_type, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        if self.path != "/healthz" or code != 200:
            super().log_request(code, size)


def migrate():
    with database() as cursor:
        cursor.execute(MIGRATIONS)
    print("todo: the tables are up to date")


def main():
    if not os.environ.get("DB_URI"):
        sys.exit("todo: DB_URI is not set, e.g. postgresql://user:password@host:5432/database")
    if sys.argv[1:] == ["migrate"]:
        return migrate()
    if not os.environ.get("USER_ID", "").isdigit():
        sys.exit("todo: USER_ID is not set to a number")
    # Process 1 receives only signals that it handles.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server = http.server.ThreadingHTTPServer(("", PORT), Handler)
    print(f"todo: listening on port {PORT}")
    server.serve_forever()


main()
