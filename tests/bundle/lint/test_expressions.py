"""What a `$` expression may say is a short list; everything else is refused unevaluated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grata_monai.bundle.lint.expressions import expression_problems
from grata_monai.bundle.lint.targets import allowed_names

ALLOWED = allowed_names()
KNOWN = {
    "output_dir": ["$@bundle_root + '/eval'"],
    "data_dir": [None],
    "bundle_root": [{"_target_": "grata_monai.bundle.find_bundle_root"}],
    "split": [{"_target_": "grata_monai.read.cases.split_cases"}],
    "phantom_cases": [{"_target_": "grata_monai.read.cases.list_phantoms"}],
    "images": ["$sorted(glob.glob(@data_dir + '/*.nii.gz'))"],
    "load": [[{"_target_": "LoadImaged"}]],
    "max_epochs": [130],
    "a": ["a"],
    "some::upper": [1],
    "note": ["dicom"],
    "notes": [["a", "b"]],
    "pick": ["$@notes[0] if @max_epochs else 1"],
    "empty_dir": [""],
    "scheme_dir": ["http:/"],
    "up_dir": ["../.."],
    "far_dir": ["@scheme_dir"],
    "nothing_dir": ["$@empty_dir + '/etc'"],
    "one_dir": ["$@other_dir + '/a'"],
    "other_dir": ["$@one_dir + '/b'"],
}


def problems(text: str, id: str = "here") -> list[str]:
    return expression_problems(text, id, ALLOWED, KNOWN)


@pytest.mark.parametrize(
    "text",
    [
        "$@output_dir + '/phantom'",
        "$not @is_fractional",
        "$@num_workers > 0",
        "$@resume is None",
        "$@split[0] + @phantom_cases",
        "$@images[0] + @load",
        "$@load + @images",
        "$len(@images) * 2 - 1.5",
        "$@max_epochs // 2 + round(0.5 * @max_epochs)",
        "$list(sorted(glob.glob(@data_dir + '/imagesTs/*.nii.gz')))",
        "$os.path.join(@bundle_root, 'models', 'model.pt')",
        "$@bundle_root + '/models/model.pt'",
        "$@one_dir + '/c'",
        "$@operators_dir + '/images'",
        "$import glob",
        "$import os",
        "$@x[-1]",
        "$@max_epochs * len(@training#loader) + 1",
        "$@training#network.parameters()",
        "$@dicom_output.get('kind') == 'FRACTIONAL'",
        "$@evaluator.run() if @cases else None",
        "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "$monai.handlers.from_engine(['pred', 'label'], first=True)",
        "$@##upper + 1",
        "$(1, [2.5, -3], {'a': True})",
        "$import torch",
        "$import monai.handlers",
    ],
)
def test_it_allows(text):
    assert problems(text, "some#place#here") == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # to the shell
        ("$os.system('true')", "uses the name 'os.system'"),
        ("$__import__('os').system('true')", "calls '__import__'"),
        ("$import subprocess", "imports 'subprocess'"),
        ("$import os as torch", "imports other than"),
        ("$from os import system", "imports other than"),
        ("$from torch import load as len", "imports other than"),
        ("$import torch, os", "imports other than"),
        ("$import monai; import os", "is not one Python expression"),
        ("$import\tctypes", "imports 'ctypes'"),
        ("$eval('1')", "calls 'eval'"),
        ("$exec('1')", "calls 'exec'"),
        ("$open('x')", "calls 'open'"),
        ("$len", "uses the name 'len'"),
        ("$torch", "uses the name 'torch'"),
        ("$monai.transforms.LoadImaged('image', 'os.system')", "uses the name 'monai.trans"),
        ("$monai.transforms.LoadImaged", "uses the name 'monai.transforms.LoadImaged'"),
        ("$os.getcwd()", "uses the name 'os.getcwd'"),
        ("$torch.load('x')", "uses the name 'torch.load'"),
        ("$torch.hub.load('x')", "uses the name 'torch.hub.load'"),
        ("$torch.os.system('x')", "uses the name 'torch.os.system'"),
        ("$np.load('x', allow_pickle=True)", "uses the name 'np.load'"),
        ("$monai.apps.download_url('x')", "uses the name 'monai.apps.download_url'"),
        # through attributes
        ("$().__class__.__mro__", "uses the attribute '__class__'"),
        ("$''.__class__.__base__.__subclasses__()", "uses the attribute '__subclasses__'"),
        ("$@evaluator.__init__.__globals__", "uses the attribute '__globals__'"),
        ("$@evaluator.run.__self__", "uses the attribute '__self__'"),
        ("$@a.system('true')", "uses the attribute 'system'"),
        ("$'{0.__class__}'.format(@a)", "uses the attribute 'format'"),
        ("$getattr(@a, '__class__')", "calls 'getattr'"),
        ("$vars()", "calls 'vars'"),
        # by calling what a reference holds
        ("$@a('true')", "calls something that has no name"),
        ("$@a[0]('true')", "calls something that has no name"),
        ("$(lambda: 1)()", "uses lambda"),
        # by grammar
        ("$f'{1}'", "uses joinedstr"),
        ("$[x for x in @a]", "uses listcomp"),
        ("$(x := 1)", "uses namedexpr"),
        ("$@a.run(*@b)", "uses starred"),
        ("$@a.run(**@b)", "unpacks a dictionary"),
        ("$@a[@b]", "has an index that is no constant"),
        ("$@a[0:1]", "has an index that is no constant"),
        ("$sorted(@a, key=eval)", "uses the name 'eval'"),
        ("$sorted(@a, key=@load)", "names an argument of 'sorted'"),
        ("$9 ** 9 ** 9", "uses pow"),
        ("$@max_epochs % 2", "uses mod"),
        ("$'%s' % 'a'", "composes a text"),
        ("$b'a'", "has a constant of type bytes"),
        ("$...", "has a constant of type ellipsis"),
        ("$x = 1", "is a statement"),
        ("$@a = 1", "is a statement"),
        ("$del @a", "is a statement"),
        ("$", "is not one Python expression"),
        ("$1 +", "is not one Python expression"),
        ("$ 1", "is not one Python expression"),
        ("$'@a'", "is not one Python expression"),
        ("$'\0'", "is not one Python expression"),
        ("$" + "(" * 150 + ")" * 150, "is longer than 200 characters"),
        ("$@##a", "is not one Python expression"),
        # to other files
        ("$@bundle_root + '/../../etc/passwd'", "has a text that leaves its folder"),
        ("$@bundle_root + '/a\\\\..\\\\x'", "has a text that leaves its folder"),
        ("$'/etc/passwd'", "has a text that is an absolute path"),
        ("$'' + '/etc/passwd'", "composes a text"),
        ("$@empty + '/etc/passwd'", "composes a text"),
        ("$@a_dir + '/' + '/example.org'", "composes a text"),
        ("$@a_dir + '//example.org'", "has a text that is an address"),
        ("$@data_dir + './x'", "composes a text"),
        ("$'.' * 2", "composes a text"),
        # of texts that look harmless
        ("$@note + @a", "composes a text"),
        ("$@note[0] + @note[1]", "composes a text"),
        ("$@notes[0] + @notes[1]", "composes a text"),
        ("$@pick + @pick", "composes a text"),
        ("$@unknown + @split[0]", "composes a text"),
        ("$@load[0] + @a", "composes a text"),
        ("$@a * 3", "composes a text"),
        ("$(@a or 1) + 1", "composes a text"),
        ("$(@a if @b else 1) + 1", "composes a text"),
        ("$max(@notes) + min(@notes)", "composes a text"),
        ("$@split.get('a') + 1", "composes a text"),
        ("$@note + '/etc'", "composes a text"),
        ("$@empty_dir + '/etc/passwd'", "composes a text"),
        ("$@nothing_dir + '/passwd'", "composes a text"),
        ("$@scheme_dir + '/example.org'", "composes a text"),
        ("$@far_dir + '/example.org'", "composes a text"),
        ("$@up_dir + '/etc'", "composes a text"),
        ("$@x::some_dir + '/etc'", "composes a text"),
        ("$os.path.join(@note, 'etc')", "composes a text"),
        ("$os.path.join('a', 'b')", "composes a text"),
        ("$os.path.join(@data_dir, @note)", "composes a text"),
        ("$os.path.join(@data_dir, '/etc')", "has a text that is an absolute path"),
        ("$os.path.join(@data_dir, '..')", "has a text that leaves its folder"),
        ("$'https://example.org/a.pt'", "has a text that is an address"),
    ],
)
def test_it_refuses(text, problem):
    assert any(found.startswith(problem) for found in problems(text)), problems(text)


def test_a_key_cannot_smuggle_text_into_a_relative_reference():
    assert problems("$@##a", "plain#key#here") == []
    key = "x'] or __import__('os').system('true') or ['#here"
    assert problems("$@#a", key) == ["refers relatively from below a key with special characters"]
    assert problems("$@a", key) == []


def test_every_problem_is_named_wherever_it_stands():
    found = problems("$[@a.b, max(1, os.name), {'k': eval}, 1 if exec else 2]")
    for name in ("'b'", "'os.name'", "'eval'", "'exec'"):
        assert any(name in problem for problem in found)


@given(st.text(max_size=60))
def test_no_text_whatever_makes_the_check_itself_fail(text):
    assert isinstance(problems("$" + text), list)


@given(st.text(alphabet="@#:a_.()[]'\"$%+ \n", max_size=40))
def test_no_text_of_monais_own_signs_makes_the_check_itself_fail(text):
    assert isinstance(problems("$" + text, "a#b"), list)


def test_a_longer_list_allows_more():
    text = "$@a.shape"
    assert expression_problems(text, "here", allowed_names([".shape"]), KNOWN) == []
