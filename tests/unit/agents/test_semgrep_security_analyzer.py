# ruff: noqa: S608, ISC004 the snippets are code to be found fault with
"""semgrep-security-analyzer finds each fault that it has a rule for, is silent on its safe form, and writes SARIF."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sarif_pydantic import Sarif

from sutazai.agents.semgrep_security_analyzer import engine, ruleset
from sutazai.runtime.programs import MissingProgramError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Broker

FLASK = "from flask import request\nimport os, subprocess, sqlite3, requests\n\ndef view(db):\n"

#: rule → (name of the file, with the fault, without it)
SNIPPETS: dict[str, tuple[str, str, str]] = {
    "python-command-injection": (
        "a.py",
        FLASK + "    subprocess.run('ls ' + request.args['x'], shell=True)\n",
        FLASK + "    subprocess.run(['ls', request.args['x']])\n",
    ),
    "python-sql-injection": (
        "a.py",
        FLASK + "    q = 'select * from t where n = ' + request.form['n']\n    db.execute(q)\n",
        FLASK + "    db.execute('select * from t where n = ?', (request.form['n'],))\n",
    ),
    "python-sql-built-from-text": (
        "a.py",
        "def f(db, n):\n    db.execute(f'select {n} from t')\n",
        "def f(db, n):\n    db.execute('select a ' + 'from t where n = ?', (n,))\n",
    ),
    "python-code-execution": (
        "a.py",
        "text = input()\nprint(eval(text))\n",
        "import ast\ntext = input()\nprint(ast.literal_eval(text))\n",
    ),
    "python-path-traversal": (
        "a.py",
        FLASK + "    return open('/srv/' + request.args['f']).read()\n",
        FLASK + "    return open('/srv/' + os.path.basename(request.args['f'])).read()\n",
    ),
    "python-request-forgery": (
        "a.py",
        FLASK + "    return requests.get(request.args['u'], timeout=3).text\n",
        FLASK + "    return requests.get('https://example.org/', timeout=3).text + request.args['u']\n",
    ),
    "python-unsafe-deserialisation": (
        "a.py",
        "import pickle\ndef f(data):\n    return pickle.loads(data)\n",
        "import pickle\ndef f(data):\n    return pickle.dumps(data)\n",
    ),
    "python-unsafe-yaml": (
        "a.py",
        "import yaml\ndef f(s):\n    return yaml.load(s, Loader=yaml.Loader)\n",
        "import yaml\ndef f(s):\n    return yaml.load(s, Loader=yaml.SafeLoader), yaml.safe_load(s)\n",
    ),
    "python-tls-not-verified": (
        "a.py",
        "import requests\nrequests.get('https://example.org', verify=False)\n",
        "import requests\nrequests.get('https://example.org', verify='/etc/ssl/ca.pem')\n",
    ),
    "python-weak-hash-of-secret": (
        "a.py",
        "import hashlib\ndef f(password):\n    return hashlib.md5(password.encode()).hexdigest()\n",
        "import hashlib\ndef f(page):\n    return hashlib.md5(page.encode()).hexdigest()\n",
    ),
    "python-secret-in-code": (
        "a.py",
        "DB_PASSWORD = 'hunter2-and-more'\n",
        "import os\nDB_PASSWORD = os.environ['DB_PASSWORD']\nNEXT_PASSWORD = 'changeme-please'\n",
    ),
    "python-random-for-secret": (
        "a.py",
        "import random\nsession_token = str(random.randint(0, 10**9))\n",
        "import random, secrets\nsession_token = secrets.token_hex()\ndice = random.randint(1, 6)\n",
    ),
    "python-archive-extracts-anywhere": (
        "a.py",
        "import tarfile\ndef f(p):\n    t = tarfile.open(p)\n    t.extractall('/srv')\n",
        "import tarfile\ndef f(p):\n    t = tarfile.open(p)\n    t.extractall('/srv', filter='data')\n",
    ),
    "python-temporary-name": (
        "a.py",
        "import tempfile\nname = tempfile.mktemp()\n",
        "import tempfile\nhandle, name = tempfile.mkstemp()\n",
    ),
    "python-debug-server": ("a.py", "app.run(port=1, debug=True)\n", "app.run(port=1, debug=False)\n"),
    "python-unsafe-template": (
        "a.py",
        "from flask import request, render_template_string\ndef v():\n"
        "    return render_template_string('Hi ' + request.args['n'])\n",
        "from flask import request, render_template\ndef v():\n    return render_template('a', n=request.args['n'])\n",
    ),
    "javascript-code-execution": (
        "a.js",
        "app.get('/', (req, res) => { eval(req.query.code); });\n",
        "app.get('/', (req, res) => { JSON.parse(req.query.code); });\n",
    ),
    "javascript-command-injection": (
        "a.ts",
        "import { exec } from 'child_process';\nexport function f(req: any) { exec('ls ' + req.body.d); }\n",
        "import { execFile } from 'child_process';\nexport function f(req: any) { execFile('ls', [req.body.d]); }\n",
    ),
    "javascript-dom-injection": (
        "a.js",
        "const q = location.hash;\ndocument.getElementById('q').innerHTML = q;\n",
        "const q = location.hash;\ndocument.getElementById('q').textContent = q;\n",
    ),
    "javascript-sql-injection": (
        "a.js",
        "function f(req, db) { db.query('select * from t where n = ' + req.params.n); }\n",
        "function f(req, db) { db.query('select * from t where n = ?', [req.params.n]); }\n",
    ),
    "javascript-tls-not-verified": (
        "a.js",
        "https.get(url, { rejectUnauthorized: false }, done);\n",
        "https.get(url, { rejectUnauthorized: true }, done);\n",
    ),
    "go-tls-not-verified": (
        "a.go",
        'package a\nimport "crypto/tls"\nvar c = &tls.Config{InsecureSkipVerify: true}\n',
        'package a\nimport "crypto/tls"\nvar c = &tls.Config{MinVersion: tls.VersionTLS12}\n',
    ),
    "go-command-injection": (
        "a.go",
        'package a\nfunc h(w http.ResponseWriter, r *http.Request) {\n\tx := r.FormValue("x")\n'
        '\texec.Command("sh", "-c", "ls "+x).Run()\n}\n',
        'package a\nfunc h(w http.ResponseWriter, r *http.Request) {\n\tx := r.FormValue("x")\n'
        '\texec.Command("ls", x).Run()\n}\n',
    ),
    "go-sql-built-from-text": (
        "a.go",
        'package a\nfunc h(db *sql.DB, n string) {\n\tdb.Query(fmt.Sprintf("select %s", n))\n}\n',
        'package a\nfunc h(db *sql.DB, n string) {\n\tdb.Query("select * from t where n = ?", n)\n}\n',
    ),
    "dockerfile-pipe-to-shell": (
        "Dockerfile",
        "FROM debian\nRUN curl -sSf https://example.org/i.sh | sudo bash\n",
        "FROM debian\nRUN curl -sSfo i.sh https://example.org/i.sh && sha256sum -c i.sum && sh i.sh\n",
    ),
    "shell-pipe-to-shell": (
        "a.sh",
        "curl -s https://example.org/i.sh | bash\n",
        "curl -s https://example.org/i.sh | sha256sum\n",
    ),
}

AGENT = "semgrep-security-analyzer"
TWO_FAULTS = (
    "import pickle\nimport yaml\n\ndef f(data):\n    yaml.load(data)\n    return pickle.loads(data)  # nosemgrep\n"
)


def scan(broker: Broker, source: dict[str, str]) -> dict[str, Any]:
    """Scan files."""
    found: dict[str, Any] = broker.ask(AGENT, "scan", {"source": source}).require()
    return found


def test_every_rule_has_a_snippet() -> None:
    """No rule is shipped untested, and each says what, which CWE, how bad and how sure."""
    assert set(SNIPPETS) == set(ruleset.rules())
    assert all(rule.cwe.startswith("CWE-") and rule.title for rule in ruleset.rules().values())


def test_each_fault_is_found_and_its_safe_form_is_not(broker: Broker) -> None:
    """One scan of all snippets: each file with a fault is found by its own rule, no safe file by that rule."""
    source = {}
    for rule, (name, bad, good) in SNIPPETS.items():
        source[f"{rule}/bad/{name}"] = bad
        source[f"{rule}/good/{name}"] = good
    found = scan(broker, source)
    assert found["errors"] == []
    hits = {(item["rule"], item["place"]["path"]) for item in found["findings"]}
    missed = [rule for rule, (name, _, _) in SNIPPETS.items() if (rule, f"{rule}/bad/{name}") not in hits]
    false = [rule for rule, (name, _, _) in SNIPPETS.items() if (rule, f"{rule}/good/{name}") in hits]
    assert (missed, false) == ([], [])
    ranks = [(item["severity"] != "error", item["rank"]) for item in found["findings"]]
    assert ranks == sorted(ranks)


def test_sarif_holds_what_was_found_and_another_reader_takes_it(broker: Broker) -> None:
    """The log is valid for an independent SARIF 2.1.0 model; results point to rules, suppressed ones say so."""
    found = scan(broker, {"a.py": TWO_FAULTS, "b c.js": "eval(location.hash)\n", "d.txt": "?"})
    log = found["sarif"]
    Sarif.model_validate_json(json.dumps(log))
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        region = result["locations"][0]["physicalLocation"]["region"]
        assert (region["startLine"], region["startColumn"]) <= (region["endLine"], region["endColumn"])
    assert found["suppressed"] == 1
    assert [item["ruleId"] for item in run["results"] if "suppressions" in item] == ["python-unsafe-deserialisation"]
    assert "python-unsafe-deserialisation" not in {item["rule"] for item in found["findings"]}
    uris = {item["location"]["uri"] for item in run["artifacts"]}
    assert uris == {"a.py", "b%20c.js"}
    assert found["skipped"] == ["d.txt"]


def test_a_fingerprint_survives_a_move_of_the_code(broker: Broker) -> None:
    """The same fault lower in the file has the same fingerprint."""
    prints = [
        scan(broker, {"a.py": lead + "import yaml\nyaml.load(x)\n"})["sarif"]["runs"][0]["results"][0]
        for lead in ("", "\n\n# moved\n")
    ]
    assert prints[0]["partialFingerprints"] == prints[1]["partialFingerprints"]
    assert prints[0]["locations"] != prints[1]["locations"]


def test_a_file_that_is_no_code_is_no_clean_result(broker: Broker) -> None:
    """Nothing to scan, or a file that cannot be parsed, is `incomplete`, not `clean`."""
    assert scan(broker, {"a.txt": "x"})["verdict"] == "incomplete"
    broken = scan(broker, {"a.go": "package a\nvar c = tls.Config{{{ InsecureSkipVerify: true ) (\n"})
    assert broken["verdict"] == "incomplete"
    assert broken["errors"]
    assert broken["sarif"]["runs"][0]["invocations"][0]["executionSuccessful"] is False


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "either `source` or `path`"),
        ({"source": {}}, "no file"),
        ({"source": {"/etc/x.py": ""}}, "no relative name"),
        ({"source": {"a/.hidden.py": ""}}, "no relative name"),
        ({"path": "/etc"}, "lets the agent read no folder"),
    ],
)
def test_bad_input_is_refused(broker: Broker, data: dict[str, Any], said: str) -> None:
    """Each mistake has its text and is not tried again."""
    answer = broker.ask(AGENT, "scan", data)
    assert answer.error is not None
    assert said in answer.error["message"]
    assert answer.error["retryable"] is False


def test_a_folder_is_scanned_without_hidden_files_and_links(broker: Broker, tmp_path: Path) -> None:
    """Files below an allowed folder are read; what a link leads to outside is not."""
    (tmp_path / "in/.git").mkdir(parents=True)
    (tmp_path / "in/a.py").write_text("import yaml\nyaml.load(x)\n")
    (tmp_path / "in/.git/b.py").write_text("import yaml\nyaml.load(x)\n")
    (tmp_path / "secret.py").write_text("import yaml\nyaml.load(x)\n")
    (tmp_path / "in/link.py").symlink_to(tmp_path / "secret.py")
    broker.settings = {"folders": [str(tmp_path / "in")]}
    found = broker.ask(AGENT, "scan", {"path": str(tmp_path / "in")}).require()
    assert found["files"] == ["a.py"]
    direct = broker.ask(AGENT, "scan", {"path": str(tmp_path / "in/link.py")})
    assert direct.error is not None
    assert "outside of the folders" in direct.error["message"]


def test_a_missing_engine_is_unavailable_with_the_command(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the environment the task fails at once and says how to get it."""

    def gone() -> None:
        raise MissingProgramError(f"semgrep is not installed here: run `{engine.INSTALL}` in the checkout")

    monkeypatch.setattr(engine, "program", gone)
    answer = broker.ask(AGENT, "scan", {"source": {"a.py": ""}})
    assert answer.error is not None
    assert answer.error["code"] == "unavailable"
    assert "scripts/bootstrap env-semgrep" in answer.error["message"]


def test_rules_are_told(broker: Broker) -> None:
    """The list of rules is complete."""
    assert len(broker.ask(AGENT, "rules", {}).require()["rules"]) == len(SNIPPETS)
