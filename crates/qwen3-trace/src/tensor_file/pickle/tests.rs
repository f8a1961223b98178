use std::collections::BTreeMap;

use super::{TensorView, tensors};

/// A GLOBAL.
pub(in crate::tensor_file) fn name(module: &str, member: &str) -> Vec<u8> {
    format!("c{module}\n{member}\n").into_bytes()
}

/// A BINUNICODE.
pub(in crate::tensor_file) fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// An integer of 8 bytes.
pub(in crate::tensor_file) fn int(number: i64) -> Vec<u8> {
    [b"\x8a\x08", &number.to_le_bytes()[..]].concat()
}

pub(in crate::tensor_file) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

pub(in crate::tensor_file) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [b"](", &items.concat()[..], b"e"].concat()
}

pub(in crate::tensor_file) fn dict(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(key, value)| [&key[..], value].concat()).collect();
    [b"}(", &entries[..], b"u"].concat()
}

/// A call of what `function` puts on the stack.
pub(in crate::tensor_file) fn call(function: Vec<u8>, arguments: &[Vec<u8>]) -> Vec<u8> {
    [function, tuple(arguments), b"R".to_vec()].concat()
}

fn ordered(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let empty = call(name("collections", "OrderedDict"), &[]);
    [
        empty,
        b"(".to_vec(),
        entries.iter().flat_map(|(key, value)| [&key[..], value].concat()).collect(),
        b"u".to_vec(),
    ]
    .concat()
}

/// What `_rebuild_tensor_v2` is called with.
pub(in crate::tensor_file) fn arguments(
    storage: (&str, &str),
    key: &str,
    numel: i64,
    offset: i64,
    shape: &[i64],
    strides: &[i64],
) -> Vec<Vec<u8>> {
    let numbers = |numbers: &[i64]| tuple(&numbers.iter().map(|number| int(*number)).collect::<Vec<_>>());
    let id = tuple(&[text("storage"), name(storage.0, storage.1), text(key), text("cpu"), int(numel)]);
    let hooks = call(name("collections", "OrderedDict"), &[]);
    vec![[&id[..], b"Q"].concat(), int(offset), numbers(shape), numbers(strides), b"\x89".to_vec(), hooks]
}

pub(in crate::tensor_file) fn rebuild() -> Vec<u8> {
    name("torch._utils", "_rebuild_tensor_v2")
}

/// Four floats of storage 0.
fn tensor() -> Vec<u8> {
    call(rebuild(), &arguments(("torch", "FloatStorage"), "0", 4, 0, &[2, 2], &[2, 1]))
}

pub(in crate::tensor_file) fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

fn read(value: &[u8]) -> Result<BTreeMap<String, TensorView>, String> {
    tensors(&pickle(value), "bare")
}

fn names(value: &[u8]) -> Vec<String> {
    read(value).unwrap().into_keys().collect()
}

#[test]
fn tensors_are_named_by_what_leads_to_them() {
    assert_eq!(names(&tensor()), ["bare"]);
    let plain = [
        b"N".to_vec(),
        b"\x88".to_vec(),
        int(7),
        text("x"),
        b"G\0\0\0\0\0\0\0\0".to_vec(),
        b"C\x02ab".to_vec(),
    ];
    let inner = tuple(&[plain[0].clone(), tensor(), plain[4].clone()]);
    let value = dict(&[
        (text("list"), list(&[tensor(), inner])),
        (int(5), tensor()),
        (text("a.b"), ordered(&[(text("c"), tensor()), (text("n"), plain[2].clone())])),
        (text("none"), plain[0].clone()),
        (plain[1].clone(), plain[5].clone()),
        (text("size"), call(name("torch", "Size"), &[tuple(&[int(2)])])),
        (text("device"), call(name("torch", "device"), &[text("cpu")])),
        (text("dtype"), name("torch", "float32")),
        (text("set"), call(name("__builtin__", "set"), &[list(&[int(1)])])),
    ]);
    assert_eq!(names(&value), ["5", "a.b.c", "list.0", "list.1.1"]);
    assert_eq!(names(&list(&[])), [""; 0]);
}

#[test]
fn parameters_and_tensors_with_attributes_are_tensors() {
    let hooks = call(name("collections", "OrderedDict"), &[]);
    let parameter =
        call(name("torch._utils", "_rebuild_parameter"), &[tensor(), b"\x88".to_vec(), hooks.clone()]);
    assert_eq!(read(&parameter).unwrap()["bare"], read(&tensor()).unwrap()["bare"]);
    let inside = tuple(&arguments(("torch", "FloatStorage"), "0", 4, 0, &[2, 2], &[2, 1]));
    let of = |class: Vec<u8>| {
        let state = dict(&[(text("persistent"), b"\x88".to_vec())]);
        call(name("torch._tensor", "_rebuild_from_type_v2"), &[rebuild(), class, inside.clone(), state])
    };
    assert_eq!(read(&of(name("torch", "Tensor"))).unwrap(), read(&tensor()).unwrap());
    assert!(read(&of(name("mine", "Tensor"))).unwrap_err().contains("asks for `mine.Tensor`"));
    // A state dict has attributes of its own.
    let state =
        [ordered(&[(text("w"), tensor())]), dict(&[(text("_metadata"), hooks)]), b"b".to_vec()].concat();
    assert_eq!(names(&state), ["w"]);
}

#[test]
fn an_untyped_storage_has_the_dtype_of_the_tensor() {
    let mut given = arguments(("torch.storage", "UntypedStorage"), "3", 8, 1, &[2], &[1]);
    given.push(name("torch", "uint16"));
    let found = read(&call(name("torch._utils", "_rebuild_tensor_v3"), &given)).unwrap();
    let view = &found["bare"];
    assert_eq!((view.dtype, view.storage.dtype, view.storage.numel), ("uint16", "uint8", 8));
    assert_eq!((view.offset, &view.shape[..], &view.strides[..]), (1, &[2][..], &[1][..]));
    assert_eq!(view.storage.key, "3");
}

/// Pickles of PyTorch 2.9: `{"a": OrderedDict(t=x.t()), "l": [Parameter(x[1:]), 1]}` of a bf16 `x` of 2 by 3.
pub(in crate::tensor_file) const PROTOCOL_2: &[u8] = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01ccollections\nOrderedDict\n\
    q\x02)Rq\x03X\x01\x00\x00\x00tq\x04ctorch._utils\n_rebuild_tensor_v2\nq\x05((X\x07\x00\x00\x00storageq\x06ctorch\n\
    BFloat16Storage\nq\x07X\x01\x00\x00\x000q\x08X\x03\x00\x00\x00cpuq\tK\x06tq\nQK\x00K\x03K\x02\x86q\x0bK\x01K\x03\x86\
    q\x0c\x89h\x02)Rq\rtq\x0eRq\x0fsX\x01\x00\x00\x00lq\x10]q\x11(ctorch._utils\n_rebuild_parameter\nq\x12h\x05((h\x06h\
    \x07h\x08h\tK\x06tq\x13QK\x03K\x01K\x03\x86q\x14K\x03K\x01\x86q\x15\x89h\x02)Rq\x16tq\x17Rq\x18\x88h\x02)Rq\x19\x87q\
    \x1aRq\x1bK\x01eu.";
pub(in crate::tensor_file) const PROTOCOL_5: &[u8] = b"\x80\x05\x95\xfa\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94\
    \x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94\x8c\x01t\x94\x8c\x0ctorch._utils\x94\x8c\x12\
    _rebuild_tensor_v2\x94\x93\x94((\x8c\x07storage\x94\x8c\x05torch\x94\x8c\x0fBFloat16Storage\x94\x93\x94\x8c\x010\x94\
    \x8c\x03cpu\x94K\x06t\x94QK\x00K\x03K\x02\x86\x94K\x01K\x03\x86\x94\x89h\x04)R\x94t\x94R\x94s\x8c\x01l\x94]\x94(h\x07\
    \x8c\x12_rebuild_parameter\x94\x93\x94h\t((h\nh\rh\x0eh\x0fK\x06t\x94QK\x03K\x01K\x03\x86\x94K\x03K\x01\x86\x94\x89h\
    \x04)R\x94t\x94R\x94\x88h\x04)R\x94\x87\x94R\x94K\x01eu.";

#[test]
fn pickles_of_pytorch_are_read() {
    for pickle in [PROTOCOL_2, PROTOCOL_5] {
        let found = tensors(pickle, "bare").unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a.t", "l.0"]);
        let (turned, row) = (&found["a.t"], &found["l.0"]);
        assert_eq!(
            (turned.dtype, &turned.shape[..], &turned.strides[..]),
            ("bfloat16", &[3, 2][..], &[1, 3][..])
        );
        assert_eq!((row.offset, &row.shape[..]), (3, &[1, 3][..]));
    }
}

#[test]
fn what_is_no_tensor_is_refused_by_its_name() {
    let run = [text("touch /tmp/owned")];
    let stack_global = [text("posix"), text("system"), b"\x93".to_vec()].concat();
    let inst = b"(X\x02\0\0\0idios\nsystem\n".to_vec();
    for (value, asked) in [
        (call(name("os", "system"), &run), "os.system"),
        (call(stack_global, &run), "posix.system"),
        (call(name("builtins", "eval"), &run), "builtins.eval"),
        (call(name("torch", "load"), &run), "torch.load"),
        (call(name("torch._utils", "_rebuild_qtensor"), &[]), "torch._utils._rebuild_qtensor"),
        (name("numpy._core.multiarray", "_reconstruct"), "numpy._core.multiarray._reconstruct"),
        (dict(&[(text("x"), tensor()), (text("y"), name("a\x1b", "b"))]), "a\\u{1b}.b"),
        (inst, "os.system"),
    ] {
        let error = read(&value).unwrap_err();
        let expected =
            format!("asks for `{asked}`, which is no part of a tensor: refused, nothing was executed");
        assert!(error.contains(&expected), "{error}");
    }
    for (value, reason) in [
        (call(text("os.system"), &run), "calls something that has no name"),
        ([list(&[]), dict(&[]), b"b".to_vec()].concat(), "sets the state"),
        ([name("collections", "OrderedDict"), b")\x81".to_vec()].concat(), "opcode `\\x81`"),
        (call(name("collections", "OrderedDict"), &[list(&[])]), "other arguments"),
        (call(name("torch", "float32"), &[]), "other arguments"),
        (b"(oo".to_vec(), "opcode `o`"),
        (b"P0\n".to_vec(), "opcode `P`"),
        (b"\x82\x01".to_vec(), "opcode `\\x82`"),
    ] {
        let error = read(&value).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn views_that_are_none_are_refused() {
    let float = ("torch", "FloatStorage");
    let shaped =
        |shape: &[i64], strides: &[i64]| call(rebuild(), &arguments(float, "0", 4, 0, shape, strides));
    let many = [1_i64; 65];
    let with_bits = |bits: Vec<u8>| {
        let mut given = arguments(float, "0", 4, 0, &[4], &[1]);
        given.push(bits);
        call(rebuild(), &given)
    };
    assert_eq!(names(&with_bits(dict(&[]))), ["bare"]);
    let mut of_text = arguments(float, "0", 4, 0, &[4], &[1]);
    of_text[0] = text("storage");
    for (value, reason) in [
        (shaped(&[-1], &[1]), "tensor `bare` has a shape or strides that are none"),
        (shaped(&[2, 2], &[2, -1]), "shape or strides"),
        (shaped(&many, &many), "shape or strides"),
        (call(rebuild(), &arguments(float, "0", -4, 0, &[1], &[1])), "a storage of -4 elements"),
        (call(rebuild(), &arguments(float, "0", 4, -1, &[1], &[1])), "not where a storage is"),
        (call(rebuild(), &arguments(float, &"9".repeat(33), 4, 0, &[1], &[1])), "persistent id"),
        (call(rebuild(), &arguments(("torch", "float32"), "0", 4, 0, &[1], &[1])), "persistent id"),
        (with_bits(dict(&[(text("neg"), b"\x88".to_vec())])), "negated view"),
        (call(rebuild(), &of_text), "not where a storage is"),
        (call(rebuild(), &[int(1)]), "other arguments"),
        (
            dict(&[(text("a.b"), tensor()), (text("a"), dict(&[(text("b"), tensor())]))]),
            "tensor `a.b` is there twice",
        ),
        (dict(&[(text("a"), tensor()), (text("a"), tensor())]), "tensor `a` is there twice"),
        (dict(&[(b"N".to_vec(), tensor())]), "neither text nor a number"),
        (dict(&[(text(&"n".repeat(1025)), tensor())]), "a name of more than 1024 bytes"),
    ] {
        let error = read(&value).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn nothing_grows_without_end() {
    let deep = [b"(".repeat(100_000), b"t".repeat(100_000)].concat();
    assert!(read(&deep).unwrap_err().contains("containers more than 64 deep"));
    assert!(read(&b"(".repeat(2 << 20)).unwrap_err().contains("more than 1048576 values"));
    assert!(read(&b"N".repeat(2 << 20)).unwrap_err().contains("more than 1048576 values"));
    assert!(
        read(&[&b"Nq\0"[..], &b"h\0".repeat(2 << 20)].concat())
            .unwrap_err()
            .contains("more than 1048576 values")
    );
    // A list in itself, and ten in each of ten in each of ten ..
    assert!(read(b"]q\0h\0a").unwrap_err().contains("containers more than 64 deep"));
    let mut laughs = b"]q\0".to_vec();
    for level in 0..20 {
        laughs.extend([b"](", &[b'h', level].repeat(10)[..], b"eq", &[level + 1]].concat());
    }
    assert!(read(&laughs).unwrap_err().contains("more than 1048576 values"));
    // What is called with a long tuple does not copy it.
    let long =
        [name("torch", "Size"), b"q\0".to_vec(), tuple(&vec![b"N".to_vec(); 100_000]), b"q\x01".to_vec()]
            .concat();
    assert!(read(&[long, b"h\0h\x01R".repeat(100_000)].concat()).unwrap_err().contains("other arguments"));
}

#[test]
fn a_pickle_that_is_cut_or_changed_does_not_panic() {
    for good in [PROTOCOL_2, PROTOCOL_5] {
        for length in 0..good.len() {
            assert!(tensors(&good[..length], "bare").is_err(), "{length}");
        }
        for at in 0..good.len() {
            for byte in 0..=255 {
                let mut changed = good.to_vec();
                changed[at] = byte;
                let _ = tensors(&changed, "bare");
            }
        }
    }
    for (value, reason) in [
        (&b"h\x07"[..], "value 7 was never stored"),
        (b"t", "a mark is missing"),
        (b"(R", "the stack is empty"),
        (b"N(NNa", "no list"),
        (b"Ns", "the stack is empty"),
        (b"X\xff\xff\xff\xff", "ends too early"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "ends too early"),
        (b"X\x01\0\0\0\xff", "not UTF-8"),
        (b"}(Nu", "no dictionary"),
    ] {
        let error = read(value).unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    assert!(tensors(b"\x80\x00N.", "bare").unwrap_err().contains("protocol 0"));
}
