import pytest

from wardgate.model.host_name import ascii_name


@pytest.mark.parametrize(
    ("typed", "compared"),
    [
        ("Example.COM.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),  # the umlaut as two characters
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("Straße.example", "xn--strae-oqa.example"),  # not strasse: UTS 46 without transition
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),  # another full stop
        ("ＷＷＷ.example", "www.example"),
        ("**.münchen.example", "**.xn--mnchen-3ya.example"),
        ("_srv.bücher.example", "_srv.xn--bcher-kva.example"),
    ],
)
def test_names_are_compared_in_their_ascii_form(typed: str, compared: str) -> None:
    assert ascii_name(typed) == compared


@pytest.mark.parametrize(
    "typed", ["*bücher.example", "b?cher.bü?.example", "\u0300.example", "a\u2028.example"]
)
def test_what_has_no_ascii_form_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ascii_name(typed)
