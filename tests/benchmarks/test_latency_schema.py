from benchmarks.latency_schema import DOCUMENT, render


def test_the_published_schema_is_that_of_the_classes() -> None:
    assert DOCUMENT.read_text() == render(), "run `python -m benchmarks.latency_schema`"
