"""Small modules that hold an optimizer, `make` in `opt.py`, each with one edit: `<<old|new>>`.

A line `# in FILE` begins another file. `EDITS` change what the optimizer does, `UNRELATED` do not.
"""

import re

HEAD = """
import collections, dataclasses, decimal, enum, functools, os, types
import numpy as np
import torch
from torch.optim import SGD

def make(params):
    return Mine(params)
"""


def files(case: str, *, edited: bool) -> dict[str, str]:
    """The text of every file, before or after the edit."""
    text = re.sub(r"<<(.*?)\|(.*?)>>", r"\2" if edited else r"\1", case, flags=re.DOTALL)
    main, *others = re.split(r"^# in (\S+)\n", text, flags=re.MULTILINE)
    return {"opt.py": HEAD + main, **dict(zip(others[::2], others[1::2], strict=True))}


def _step(setup: str, value: str = "scale") -> str:
    """A class whose step uses a value."""
    return f"{setup}\nclass Mine(SGD):\n    def step(self, closure=None):\n        return {value}\n"


def _closing(value: str) -> str:
    """A factory that closes over a value."""
    return f"""
def outer(x):
    return lambda params: (x, SGD(params))[1]
make = outer({value})
"""


EDITS = {
    "method": _step("", "<<1|2>>"),
    "method of a base": _step("class Base(SGD):\n    def f(self): return <<1|2>>").replace(
        "Mine(SGD)", "Mine(Base)"
    ),
    "operator": _step("", "closure <<+|-> 1>>".replace("-> 1", "-") + " 1"),
    "name of an attribute": _step("", "self.<<a|b>>"),
    "helper": _step("def scale(): return <<1|2>>"),
    "helper of a helper": _step("def f(): return <<1|2>>\ndef scale(): return f()"),
    "helper in a sibling module": _step(
        "from helpers import scale"
    ) + "# in helpers.py\ndef scale(): return <<1|2>>\n",
    "helper in a sibling module, by its path": _step("import helpers", "helpers.scale()")
    + "# in helpers.py\ndef scale(): return <<1|2>>\n",
    "helper in a subpackage": _step("import pack.inner.deep as d", "d.scale()")
    + "# in pack/__init__.py\n# in pack/inner/__init__.py\n"
    + "# in pack/inner/deep.py\ndef scale(): return <<1|2>>\n",
    "helper two modules deep": _step("from helpers import scale")
    + "# in helpers.py\nimport deeper\ndef scale(): return deeper.f()\n"
    + "# in deeper.py\nfrom functools import lru_cache\n@lru_cache\ndef f(): return <<1|2>>\n",
    "helper imported in the step": _step("", "closure").replace(
        "return", "from helpers import scale; return"
    ) + "# in helpers.py\ndef scale(): return <<1|2>>\n",
    "module imported in the step": _step("", "helpers.scale()").replace(
        "return", "import helpers; return"
    ) + "# in helpers.py\ndef scale(): return <<1|2>>\n",
    "helper by a computed name": _step("import helpers", "getattr(helpers, closure)")
    + "# in helpers.py\ndef scale(): return <<1|2>>\n",
    "helper by its name in globals": _step("def scale(): return <<1|2>>", "globals()['scale']()"),
    "constant": _step("scale = <<1.0|2.0>>"),
    "sign of zero": _step("scale = <<0.0|-0.0>>"),
    "type of a constant": _step("scale = <<1|True>>"),
    "constant of a sibling module": _step("import helpers", "helpers.scale")
    + "# in helpers.py\nscale = <<1|2>>\n",
    "default": _step("def scale(a=<<1|2>>): pass"),
    "keyword default": _step("def scale(*, a=<<1|2>>): pass"),
    "closure over int": _closing("<<1|2>>"),
    "closure over tensor": _closing("torch.tensor([1.0, <<2.0|3.0>>])"),
    "closure over bfloat16 tensor": _closing("torch.tensor([<<2.0|3.0>>], dtype=torch.bfloat16)"),
    "dtype of a tensor": _closing("torch.zeros(2, dtype=torch.<<int32|float32>>)"),
    "closure over array": _closing("np.array([1.0, <<2.0|3.0>>])"),
    "closure over array of objects": _closing("np.array([None, <<2.0|3.0>>])"),
    "closure over dataclass": "@dataclasses.dataclass(frozen=True)\nclass Settings:\n    a: int\n"
    + _closing("Settings(<<1|2>>)"),
    "closure over enum": "class Mode(enum.Enum):\n    A = 1\n    B = 2\n" + _closing("Mode.<<A|B>>"),
    "value of an enum": "class Mode(enum.Enum):\n    A = <<1|2>>\n" + _closing("Mode.A"),
    "closure over Decimal": _closing("decimal.Decimal('<<1|2>>')"),
    "closure over set": _closing("{'a', '<<b|c>>'}"),
    "closure over frozenset": _closing("frozenset({('a', 1), ('<<b|c>>', 2)})"),
    "closure over dict": _closing("{'a': <<1|2>>}"),
    "order of a dict": _closing("<<dict(a=1, b=2)|dict(b=2, a=1)>>"),
    "closure over nested containers": _closing("[({'a': [<<1|2>>]},)]"),
    "closure over named tuple": _closing("collections.namedtuple('P', 'a')(<<1|2>>)"),
    "closure over module of torch": _closing("torch.nn.Dropout(<<0.1|0.2>>)"),
    "closure over itself": _closing("[]") + "make.__closure__[0].cell_contents += [make, <<1|2>>]\n",
    "attribute of a callable": "class F:\n    def __init__(self, a): self.a = a\n"
    "    def __call__(self, params): return SGD(params)\nmake = F(<<1|2>>)\n",
    "slot of a callable": "class F:\n    __slots__ = ('a',)\n"
    "    def __call__(self, params): return SGD(params)\nmake = F()\nmake.a = <<1|2>>\n",
    "call of a callable": "class F:\n    def __call__(self, params):\n"
    "        return SGD(params, lr=<<1|2>>)\nmake = F()\n",
    "instance of a bound method": "class F:\n    def __init__(self, a): self.a = a\n"
    "    def build(self, params): return SGD(params)\nmake = F(<<1|2>>).build\n",
    "partial of a tensor": "def build(params, t): return SGD(params)\n"
    "make = functools.partial(build, t=torch.tensor(<<1|2>>))\n",
    "nested partials": "def build(params, a, b): return SGD(params)\n"
    "make = functools.partial(functools.partial(build, a=<<1|2>>), b=1)\n",
    "attribute of the class set later": _step("", "self.beta") + "Mine.beta = <<0.8|0.9>>\n",
    "attribute of a function": _step("def scale(): pass") + "scale.beta = <<0.8|0.9>>\n",
    "class made in a function": "def outer(a):\n" + "    class Made(SGD):\n"
    "        def step(self, closure=None): return a\n    return Made\nMine = outer(<<1|2>>)\n",
    "code of a class made in a function": "def outer():\n    class Made(SGD):\n"
    "        def step(self, closure=None): return <<1|2>>\n    return Made\nMine = outer()\n",
    "class made in its factory": "def make(params):\n    class Made(SGD):\n"
    "        def step(self, closure=None): return <<1|2>>\n    return Made(params)\n",
    "class made by type": "Mine = type('Mine', (SGD,), {'step': lambda self, closure=None: <<1|2>>})\n",
    "class made by types": "Mine = types.new_class('Mine', (SGD,), {}, lambda names: "
    "names.update(step=lambda self, closure=None: <<1|2>>))\n",
    "property": _step("").replace("def step", "@property\n    def a(self): return <<1|2>>\n    def step"),
    "cached property": _step("").replace(
        "def step", "@functools.cached_property\n    def a(self): return <<1|2>>\n    def step"
    ),
    "class method": _step("").replace(
        "def step", "@classmethod\n    def a(cls): return <<1|2>>\n    def step"
    ),
    "static method": _step("").replace(
        "def step", "@staticmethod\n    def a(): return <<1|2>>\n    def step"
    ),
    "method under torch.no_grad": _step("", "<<1|2>>").replace(
        "def step", "@torch.no_grad()\n    def step"
    ),
    "decorator": "def twice(f):\n    def g(*a): return f(*a) * <<1|2>>\n    return g\n"
    + _step("@twice\ndef scale(): return 1"),
    "decorator with wraps": "def twice(f):\n    @functools.wraps(f)\n"
    "    def g(*a): return f(*a) * <<1|2>>\n    return g\n" + _step("@twice\ndef scale(): return 1"),
    "decorated function": "def twice(f):\n    return functools.lru_cache(functools.wraps(f)(lambda: f()))\n"
    + _step("@twice\ndef scale(): return <<1|2>>"),
    "single dispatch": _step(
        "@functools.singledispatch\ndef scale(a): pass\n"
        "@scale.register\ndef _(a: int): return <<1|2>>"
    ),
    "compiled helper": _step("@torch.compile(backend='eager')\ndef scale(): return <<1|2>>"),
    "lambda": _step("scale = lambda: <<1|2>>"),
    "metaclass": "class Meta(type):\n    def f(cls): return <<1|2>>\n"
    + _step("").replace("Mine(SGD)", "Mine(SGD, metaclass=Meta)"),
    "descriptor": "class Value:\n    def __get__(self, owner, kind): return <<1|2>>\n"
    + _step("").replace("def step", "a = Value()\n    def step"),
    "generator expression": _step("", "sum(x * <<1|2>> for x in closure)"),
    "nested function": _step("").replace("return", "f = lambda: <<1|2>>; return"),
    "helper in a nested function": _step("def scale(): return <<1|2>>").replace(
        "return scale", "f = lambda: scale(); return f"
    ),
    "setting given by the environment": "import settings\n"
    "def make(params): return SGD(params, lr=vars(settings)['lr'])\n# in settings.py\nlr = <<1|2>>\n",
    "step put on an installed class": "from hypothesis import core\n"
    "class Mine(SGD): pass\nclass Base: pass\nBase.__module__, Base.__qualname__ = 'core', 'B'\n"
    "Base.f = lambda self: <<1|2>>\n" + _step("").replace("Mine(SGD)", "Mine(SGD, Base)"),
    "kernel": "triton = __import__('triton')\n"
    + _step("import triton.language as tl\n@triton.jit\ndef scale(x):\n    tl.store(x, <<1|2>>)\n"),
}

UNRELATED = {
    "comment": _step("", "1  <<# one|# two>>"),
    "docstring": _step("def scale():\n    <<'One.'|'Two.'>>\n    return None"),
    "new docstring": _step("def scale():\n    <<|'Two.'>>\n    return None if scale else 1"),
    "docstring of a class": _step("").replace("def step", "<<'One.'|'Two.'>>\n    def step"),
    "docstring of a class made in its factory": "def make(params):\n    class Made(SGD):\n"
    "        <<'One.'|'Two.'>>\n        a = 1\n    return Made(params)\n",
    "lines": "<<|\n\n\n>>" + _step("def scale():\n    return 1"),
    "annotation": _step("def scale(a: <<int|float>>) -> <<int|float>>: pass"),
    "order of imports": "<<import helpers, deeper|import deeper, helpers>>\n"
    + _step("", "helpers.a + deeper.a")
    + "# in helpers.py\na = 1\n# in deeper.py\na = 2\n",
    "unrelated function": "def other(): return <<1|2>>\n" + _step("scale = 1"),
    "unrelated class": "class Other(SGD):\n    a = <<1|2>>\n" + _step("scale = 1"),
    "unrelated constant": "other = <<1|2>>\n" + _step("scale = 1", "self.other"),
    "unrelated function of a sibling module": _step("import helpers", "helpers.scale()")
    + "# in helpers.py\ndef scale(): return 1\ndef other(): return <<1|2>>\n",
    "unrelated module": _step("import helpers", "1") + "# in helpers.py\nscale = <<1|2>>\n",
    "module more": "<<|import helpers>>\n" + _step("", "1") + "# in helpers.py\nscale = 1\n",
    "logger": _step("import logging\nlog = logging.getLogger('<<a|b>>')", "log.info(1)"),
    "random state": _step("import random\n<<|random.seed(3); np.random.seed(3); torch.manual_seed(3)>>")
    .replace("scale", "random.random() + np.random.rand() + torch.rand(1)"),
    "cached value": _step("@functools.cache\ndef scale(): return 1\n<<|scale()>>"),
    "optimizer of the base made before": _step("class Base(SGD):\n    def step(self, closure=None): pass\n"
    "<<|Base([torch.nn.Parameter(torch.zeros(1))])>>").replace("Mine(SGD)", "Mine(Base)"),
    "optimizer made before": _step("", "1") + "<<|make([torch.nn.Parameter(torch.zeros(1))])>>\n",
    "shared equal values": "a = 'x' * 30\nb = <<a|'x' * 30>>\n" + _step("", "(a, b)"),
}
