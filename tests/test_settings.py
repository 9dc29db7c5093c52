"""Settings: where they come from, how URLs resolve, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fstore.errors import SettingsError
from fstore.settings import Settings, find_root, load_settings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = (tmp_path / "shop").resolve()
    root.mkdir()
    (root / "pyproject.toml").write_text('[tool.fstore]\nproject = "shop"\n')
    return root


def write(root: Path, table: str) -> Path:
    file = root / "pyproject.toml"
    file.write_text(table)
    return file


def test_the_defaults_need_no_server_and_lie_in_the_project(root: Path) -> None:
    assert load_settings(root, environ={}) == Settings(
        root=str(root),
        project="shop",
        registry_url=f"sqlite:///{root}/.fstore/registry.db",
        offline_url=f"file:{root}/.fstore/offline",
        online_url=f"lmdb:{root}/.fstore/online",
        spill_dir=f"{root}/.fstore/spill",
        cache_dir=f"{root}/.fstore/cache",
    )
    assert load_settings(root, environ={}).definitions_dir == root / "feature_defs"


def test_the_project_is_found_from_below(root: Path) -> None:
    below = root / "feature_defs" / "deep"
    below.mkdir(parents=True)
    assert find_root(below) == root
    assert load_settings(below, environ={}).root == str(root)


def test_the_environment_wins_over_the_file_and_overrides_over_both(root: Path) -> None:
    write(root, '[tool.fstore]\nproject = "shop"\nthreads = 2\nmemory_limit = "1GB"\nonline_url = "redis://a"\n')
    environ = {"FSTORE_MEMORY_LIMIT": "2GB", "FSTORE_ONLINE_URL": "redis://b", "FSTORE_THREADS": "3", "FSTORE_PROJECT": ""}
    settings = load_settings(root, environ=environ, online_url="redis://c", registry_url="")
    assert (settings.project, settings.threads, settings.memory_limit, settings.online_url) == (
        "shop",
        3,
        "2GB",
        "redis://c",
    )


def test_the_process_environment_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSTORE_ROOT", str(root))
    monkeypatch.setenv("FSTORE_LOAD_TIMEOUT", "2.5")
    assert load_settings().root == str(root)
    assert load_settings().load_timeout == 2.5


def test_the_root_of_the_environment_needs_no_pyproject(tmp_path: Path) -> None:
    bare = (tmp_path / "My Shop").resolve()
    bare.mkdir()
    settings = load_settings(environ={"FSTORE_ROOT": str(bare)})
    assert (settings.root, settings.project) == (str(bare), "my_shop")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sqlite:///db/registry.db", "sqlite:///{root}/db/registry.db"),
        ("sqlite:////var/registry.db", "sqlite:////var/registry.db"),
        ("postgresql://u:p@host/db", "postgresql://u:p@host/db"),
        ("airflow://registry", "airflow://registry"),
    ],
)
def test_registry_urls(root: Path, given: str, expected: str) -> None:
    assert load_settings(root, environ={"FSTORE_REGISTRY_URL": given}).registry_url == expected.format(root=root)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("file:data/offline", "file:{root}/data/offline"),
        ("file:/data/offline", "file:/data/offline"),
        ("file:///data/offline", "file:/data/offline"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
    ],
)
def test_offline_urls(root: Path, given: str, expected: str) -> None:
    assert load_settings(root, environ={"FSTORE_OFFLINE_URL": given}).offline_url == expected.format(root=root)


def refused(root: Path, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(root, environ=environ or {})
    return str(caught.value).replace(str(root), "ROOT")


def test_no_project(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, environ={})
    assert str(caught.value) == (
        f"no fstore project at {tmp_path.resolve()} or above it: no pyproject.toml has a [tool.fstore] table. "
        "Run `fstore init` in the directory that shall become one, or set FSTORE_ROOT."
    )


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^FSTORE_ROOT is '.*/nowhere', which is not a directory$"):
        load_settings(environ={"FSTORE_ROOT": str(tmp_path / "nowhere")})


def test_an_unknown_setting(root: Path) -> None:
    write(root, '[tool.fstore]\nofline_url = "file:x"\n')
    assert refused(root) == ("ROOT/pyproject.toml: [tool.fstore] has no setting 'ofline_url'. Did you mean 'offline_url'?")


def test_the_root_cannot_be_set_in_the_file(root: Path) -> None:
    write(root, '[tool.fstore]\nroot = "/"\n')
    assert refused(root).startswith("ROOT/pyproject.toml: [tool.fstore] has no setting 'root'.")


def test_a_value_of_the_wrong_type(root: Path) -> None:
    assert refused(root, {"FSTORE_THREADS": "many"}) == (
        "a setting of the project at ROOT is wrong: Expected `int`, got `str` - at `$.threads`"
    )


def test_a_project_that_is_no_name(root: Path) -> None:
    assert refused(root, {"FSTORE_PROJECT": "My-Shop"}) == (
        "'My-Shop' is not a project name: use lower-case letters, digits and underscores, starting with a letter "
        "(setting `project`, or FSTORE_PROJECT)"
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("serve_port", "65536", "setting 'serve_port' is 65536, and has to be at most 65535"),
        ("threads", "-1", "setting 'threads' is -1, and has to be at least 0"),
        ("max_catch_up", "0", "setting 'max_catch_up' is 0, and has to be at least 1"),
        ("quarantine_cap", "-5", "setting 'quarantine_cap' is -5, and has to be at least 0"),
        ("load_timeout", "0", "setting 'load_timeout' is 0, and has to be more than 0 seconds"),
        (
            "retention",
            "59m",
            """setting 'retention' is '59m', and has to be a duration of at least an hour, as in "14d": """
            "59m is too short",
        ),
        ("load_timeout", "nan", "setting 'load_timeout' is nan, and has to be more than 0 seconds"),
    ],
)
def test_numbers_that_mean_nothing(root: Path, name: str, value: str, message: str) -> None:
    assert refused(root, {f"FSTORE_{name.upper()}": value}) == message


def test_a_file_that_is_not_toml(root: Path) -> None:
    file = write(root, "[tool.fstore\n")
    with pytest.raises(SettingsError, match=rf"^{file} cannot be read: "):
        find_root(root)


def test_a_table_that_is_none(root: Path) -> None:
    write(root, "[tool]\nfstore = 3\n")
    assert refused(root) == "ROOT/pyproject.toml: tool.fstore has to be a table, as in [tool.fstore], and is 3"
