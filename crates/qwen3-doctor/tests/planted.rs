//! Changes made to the weights of the fixtures' checkpoints, each of which has to be named.

#[path = "../../qwen3-checkpoint/tests/sample/mod.rs"]
mod sample;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::bf16;
use qwen3_checkpoint::Checkpoint;
use qwen3_doctor::doctor;
use qwen3_report::doctor::{Ailment, DoctorReport, Finding, Health};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

use sample::{Stored, gguf};

/// Tensors by key: shapes and values.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints").join(name)
}

fn tensors(name: &str) -> Tensors {
    let checkpoint = Checkpoint::open(fixture(name)).unwrap();
    let read = |weight: qwen3_config::Weight| {
        let values = checkpoint.values(&weight.key, &weight.shape).unwrap();
        (weight.key, (weight.shape, values))
    };
    checkpoint.config().weights().map(read).collect()
}

/// A folder with `tensors` and the config of a fixture, a text in it exchanged.
fn folder(name: &str, tensors: &Tensors, half: bool, config: (&str, &str)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(fixture(name).join("config.json")).unwrap();
    assert!(text.contains(config.0));
    fs::write(folder.path().join("config.json"), text.replace(config.0, config.1)).unwrap();
    let bytes = |values: &[f32]| -> Vec<u8> {
        match half {
            true => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            false => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    };
    let all: Vec<(&String, Vec<usize>, Vec<u8>)> =
        tensors.iter().map(|(key, (shape, values))| (key, shape.clone(), bytes(values))).collect();
    let dtype = if half { Dtype::BF16 } else { Dtype::F32 };
    let views =
        all.iter().map(|(key, shape, bytes)| (key, TensorView::new(dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &folder.path().join("model.safetensors")).unwrap();
    folder
}

fn of(model: &Path, name: &str) -> DoctorReport {
    doctor(model, &fixture(name), &|_| {}).unwrap()
}

/// What is found where `change` was made, stored in f32 and in bf16.
fn found(name: &str, change: impl Fn(&mut Tensors)) -> Vec<DoctorReport> {
    let mut tensors = tensors(name);
    change(&mut tensors);
    [false, true].map(|half| of(folder(name, &tensors, half, ("{", "{")).path(), name)).into()
}

/// The only finding, which makes the report wrong.
fn only(report: &DoctorReport, id: Ailment) -> &Finding {
    assert_eq!(
        report.findings.iter().map(|finding| finding.id).collect::<Vec<_>>(),
        [id],
        "{:#?}",
        report.findings
    );
    assert_eq!((report.health, report.exit_code()), (Health::Wrong, 1));
    let finding = &report.findings[0];
    for tensor in &report.tensors {
        assert_eq!(tensor.health == Health::Wrong, finding.tensors.contains(&tensor.name), "{}", tensor.name);
    }
    finding
}

fn key(layer: usize, name: &str) -> String {
    format!("model.layers.{layer}.{name}.weight")
}

/// The checkpoints on which every change is made: tied and untied, random and trained, dense and with experts.
const NAMES: [&str; 4] = ["gqa-tied", "mha-untied", "trained-tiny", "experts"];

/// Makes the change on each, and expects it alone.
fn each(id: Ailment, change: impl Fn(&mut Tensors), check: impl Fn(&Finding)) {
    for name in NAMES {
        for report in found(name, &change) {
            check(only(&report, id));
        }
    }
}

fn change(tensors: &mut Tensors, key: &str, change: impl FnOnce(&[usize], &mut Vec<f32>)) {
    let (shape, values) = tensors.get_mut(key).unwrap();
    change(shape, values);
}

#[test]
fn nothing_is_found_where_nothing_changed() {
    for name in fs::read_dir(fixture("")).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        let report = of(&fixture(&name), &name);
        assert_eq!((report.health, report.findings.len()), (Health::Same, 0), "{name}");
    }
    for name in NAMES {
        for report in found(name, |_| {}) {
            assert!(report.health <= Health::Precision && report.findings.is_empty(), "{name}");
        }
    }
}

#[test]
fn rows_of_several_precisions_are_no_damage() {
    let o = key(1, "self_attn.o_proj");
    let mut tensors = tensors("mha-untied");
    change(&mut tensors, &o, |shape, values| {
        values[..7 * shape[1]].iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32());
    });
    let report = of(folder("mha-untied", &tensors, false, ("{", "{")).path(), "mha-untied");
    assert_eq!((report.health, report.findings.len()), (Health::Precision, 0), "{report:#?}");
}

#[test]
fn exchanged_tensors() {
    let exchange = |tensors: &mut Tensors, a: &str, b: &str| {
        let (one, other) = (tensors[a].1.clone(), tensors[b].1.clone());
        tensors.get_mut(a).unwrap().1 = other;
        tensors.get_mut(b).unwrap().1 = one;
    };
    let (k, v) = (key(1, "self_attn.k_proj"), key(1, "self_attn.v_proj"));
    each(
        Ailment::Exchanged,
        |tensors| exchange(tensors, &k, &v),
        |finding| {
            assert_eq!(finding.tensors, [k.clone(), v.clone()]);
            assert_eq!(finding.with, [v.clone(), k.clone()]);
        },
    );
    let (a, b) = (key(0, "input_layernorm"), key(1, "post_attention_layernorm"));
    each(
        Ailment::Exchanged,
        |tensors| exchange(tensors, &a, &b),
        |finding| assert_eq!(finding.tensors.len(), 2),
    );
    let [a, b] = [2, 5].map(|expert| key(1, &format!("mlp.experts.{expert}.up_proj")));
    for report in found("experts", |tensors| exchange(tensors, &a, &b)) {
        only(&report, Ailment::Exchanged);
    }
}

#[test]
fn stale_tensors_and_layers() {
    let (q, o) = (key(0, "self_attn.q_proj"), key(1, "self_attn.q_proj"));
    each(
        Ailment::Stale,
        |tensors| {
            let values = tensors[&q].1.clone();
            change(tensors, &o, |_, to| *to = values);
        },
        |finding| assert_eq!((&finding.tensors[..], &finding.with[..]), (&[o.clone()][..], &[q.clone()][..])),
    );
    let of_layer = |tensors: &Tensors, layer: usize| -> Tensors {
        let prefix = format!("model.layers.{layer}.");
        tensors
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    let copied = |tensors: &mut Tensors, from: usize, to: usize| {
        for (key, value) in of_layer(tensors, from) {
            tensors.insert(key.replace(&format!("layers.{from}."), &format!("layers.{to}.")), value);
        }
    };
    each(
        Ailment::Stale,
        |tensors| copied(tensors, 0, 1),
        |finding| {
            assert!(
                finding.explanation.starts_with("layer 1 holds layer 0, which is"),
                "{}",
                finding.explanation
            );
        },
    );
    each(
        Ailment::LayersExchanged,
        |tensors| {
            let (zero, one) = (of_layer(tensors, 0), of_layer(tensors, 1));
            tensors
                .extend(zero.into_iter().map(|(key, value)| (key.replace("layers.0.", "layers.1."), value)));
            tensors
                .extend(one.into_iter().map(|(key, value)| (key.replace("layers.1.", "layers.0."), value)));
        },
        |finding| assert_eq!(finding.explanation, "layer 0 holds layer 1, layer 1 holds layer 0"),
    );
}

fn transposed(shape: &[usize], values: &[f32]) -> Vec<f32> {
    (0..values.len()).map(|at| values[at % shape[0] * shape[1] + at / shape[0]]).collect()
}

#[test]
fn transposed_tensors() {
    let q = key(1, "self_attn.q_proj");
    // In the right shape.
    each(
        Ailment::Transposed,
        |tensors| change(tensors, &q, |shape, values| *values = transposed(shape, values)),
        |_| {},
    );
    // And in its own.
    let v = key(0, "self_attn.v_proj");
    each(
        Ailment::Transposed,
        |tensors| {
            let (shape, values) = tensors.get_mut(&v).unwrap();
            *values = transposed(shape, values);
            shape.reverse();
        },
        |_| {},
    );
}

/// llama.cpp's `LlamaModel.permute`.
fn permuted(values: &[f32], head_dim: usize, row: usize) -> Vec<f32> {
    let rows = values.len() / row;
    let from = |at: usize| {
        let (head, feature) = (at / head_dim, at % head_dim);
        head * head_dim + feature % 2 * (head_dim / 2) + feature / 2
    };
    (0..rows).flat_map(|at| values[from(at) * row..][..row].to_vec()).collect()
}

#[test]
fn the_order_of_interleaved_rotary_embeddings_is_no_damage() {
    for name in NAMES {
        let config = Checkpoint::open(fixture(name)).unwrap().config().clone();
        let permute = |tensors: &mut Tensors, layers: usize, norms: bool| {
            for layer in 0..layers {
                for name in ["q_proj", "k_proj"] {
                    change(tensors, &key(layer, &format!("self_attn.{name}")), |shape, values| {
                        *values = permuted(values, config.head_dim, shape[1]);
                    });
                }
                for name in ["q_norm", "k_norm"].into_iter().filter(|_| norms) {
                    change(tensors, &key(layer, &format!("self_attn.{name}")), |_, values| {
                        *values = permuted(values, config.head_dim, 1);
                    });
                }
            }
        };
        for norms in [true, false] {
            for report in found(name, |tensors| permute(tensors, config.num_hidden_layers, norms)) {
                let ids: Vec<_> = report.findings.iter().map(|finding| finding.id).collect();
                assert_eq!(
                    (ids, report.health, report.exit_code()),
                    (vec![Ailment::InterleavedRope], Health::Layout, 0)
                );
            }
        }
        // Of some layers only, no engine can use it.
        for report in found(name, |tensors| permute(tensors, 1, true)) {
            only(&report, Ailment::InterleavedRope);
        }
        let back = |tensors: &mut Tensors| {
            // As often as it takes to get back, less once.
            let k = key(0, "self_attn.k_proj");
            let original = tensors[&k].1.clone();
            change(tensors, &k, |shape, values| {
                while permuted(values, config.head_dim, shape[1]) != original {
                    *values = permuted(values, config.head_dim, shape[1]);
                }
            });
        };
        for report in found(name, back) {
            only(&report, Ailment::HalvedRope);
        }
    }
}

#[test]
fn changed_norms() {
    for (id, by) in [(Ailment::NormMinusOne, -1.0), (Ailment::NormPlusOne, 1.0)] {
        for name in ["input_layernorm", "self_attn.q_norm"] {
            let norm = key(1, name);
            each(
                id,
                |tensors| {
                    change(tensors, &norm, |_, values| values.iter_mut().for_each(|value| *value += by))
                },
                |_| {},
            );
        }
    }
}

#[test]
fn scaled_tensors_rows_and_columns() {
    let o = key(1, "self_attn.o_proj");
    for factor in [2.0, -1.0, 1.05, 0.088] {
        each(
            Ailment::Scaled,
            |tensors| change(tensors, &o, |_, values| values.iter_mut().for_each(|value| *value *= factor)),
            |finding| {
                assert!((finding.factor.unwrap() / f64::from(factor) - 1.0).abs() < 1e-3, "{finding:?}")
            },
        );
    }
    each(
        Ailment::ScaledRows,
        |tensors| {
            change(tensors, &o, |shape, values| {
                values[3 * shape[1]..5 * shape[1]].iter_mut().for_each(|v| *v *= 3.0)
            })
        },
        |finding| {
            assert_eq!((&finding.rows[..], finding.row_count), (&[3, 4][..], Some(2)));
            assert!((finding.factor.unwrap() - 3.0).abs() < 0.01, "{finding:?}");
        },
    );
    each(
        Ailment::ScaledRows,
        |tensors| {
            change(tensors, &o, |shape, values| {
                for (row, values) in values.chunks_mut(shape[1]).enumerate() {
                    values.iter_mut().for_each(|value| *value *= 0.5 + row as f32 * 0.07);
                }
            });
        },
        |_| {},
    );
    each(
        Ailment::ScaledColumns,
        |tensors| {
            change(tensors, &o, |shape, values| {
                for (at, value) in values.iter_mut().enumerate() {
                    *value *= 0.5 + (at % shape[1]) as f32 * 0.07;
                }
            });
        },
        |_| {},
    );
}

#[test]
fn zero_stale_and_exchanged_rows() {
    let (o, embedding) = (key(0, "self_attn.o_proj"), "model.embed_tokens.weight");
    each(Ailment::Zero, |tensors| change(tensors, &o, |_, values| values.fill(0.0)), |_| {});
    each(
        Ailment::ZeroRows,
        |tensors| {
            change(tensors, embedding, |shape, values| values[100 * shape[1]..103 * shape[1]].fill(0.0))
        },
        |finding| assert_eq!(finding.rows, [100, 101, 102]),
    );
    each(
        Ailment::StaleRows,
        |tensors| {
            change(tensors, embedding, |shape, values| {
                values.copy_within(7 * shape[1]..8 * shape[1], 8 * shape[1])
            })
        },
        |finding| assert_eq!(finding.rows, [8]),
    );
    each(
        Ailment::RowsExchanged,
        |tensors| {
            change(tensors, embedding, |shape, values| {
                let end = values.len() - shape[1];
                values.copy_within(50 * shape[1]..end, 51 * shape[1]);
            });
        },
        |finding| {
            let text = "rows hold the row 1 before them";
            assert!(finding.explanation.contains(text), "{}", finding.explanation);
        },
    );
    for name in ["gqa-tied", "mha-untied"] {
        let head_dim = Checkpoint::open(fixture(name)).unwrap().config().head_dim;
        let heads = |tensors: &mut Tensors| {
            change(tensors, &key(1, "self_attn.q_proj"), |shape, values| {
                let head = head_dim * shape[1];
                let (one, two) = values.split_at_mut(2 * head);
                one[head..].swap_with_slice(&mut two[..head]);
            });
        };
        for report in found(name, heads) {
            let text = "head 1 holds head 2, head 2 holds head 1";
            assert!(
                only(&report, Ailment::RowsExchanged).explanation.ends_with(text),
                "{:?}",
                report.findings
            );
        }
    }
}

#[test]
fn what_is_not_finite_is_told_with_its_place() {
    let o = key(1, "self_attn.o_proj");
    each(
        Ailment::NotFinite,
        |tensors| {
            change(tensors, &o, |shape, values| {
                values[5 * shape[1] + 2] = f32::NAN;
                values[9 * shape[1]] = f32::INFINITY;
            });
        },
        |finding| assert_eq!(finding.rows, [5, 9]),
    );
}

#[test]
fn missing_and_unexpected_tensors() {
    let norm = key(1, "input_layernorm");
    each(
        Ailment::Missing,
        |tensors| drop(tensors.remove(&norm)),
        |finding| assert!(finding.tensors.iter().eq([&norm])),
    );
    for report in found("gqa-tied", |tensors| {
        let values = tensors.remove(&norm).unwrap();
        tensors.insert("model.layers.1.attention_norm.weight".into(), values);
    }) {
        let ids: Vec<_> = report.findings.iter().map(|finding| finding.id).collect();
        assert_eq!(ids, [Ailment::Missing, Ailment::Unexpected]);
        assert!(report.findings[1].with.iter().eq([&norm]));
    }
    each(
        Ailment::Shape,
        |tensors| {
            let (shape, values) = tensors.get_mut("model.embed_tokens.weight").unwrap();
            values.truncate((shape[0] - 3) * shape[1]);
            shape[0] -= 3;
        },
        |finding| assert!(finding.explanation.ends_with("there are 3 fewer"), "{}", finding.explanation),
    );
}

#[test]
fn a_merged_adapter_and_other_weights() {
    let q = key(1, "self_attn.q_proj");
    let random = |at: usize, seed: usize| ((at * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5;
    for name in ["gqa-tied", "trained-tiny"] {
        let merge = |tensors: &mut Tensors| {
            change(tensors, &q, |shape, values| {
                for (at, value) in values.iter_mut().enumerate() {
                    let (row, column) = (at / shape[1], at % shape[1]);
                    let added: f32 = (0..3).map(|r| random(row, r) * random(column, r + 9)).sum();
                    *value += 0.2 * added;
                }
            });
        };
        for report in found(name, merge) {
            assert!(only(&report, Ailment::LowRank).explanation.contains("rank 3"), "{:?}", report.findings);
        }
        let other = |tensors: &mut Tensors| {
            change(tensors, &q, |_, values| {
                for (at, value) in values.iter_mut().enumerate() {
                    *value = random(at * at, 5);
                }
            });
        };
        for report in found(name, other) {
            assert!(
                only(&report, Ailment::Differs).explanation.contains("nothing in common"),
                "{:?}",
                report.findings
            );
        }
    }
}

#[test]
fn tied_and_untied_heads() {
    let (tied, untied) = (("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"), "mha-untied");
    let mut own = tensors("gqa-tied");
    own.insert("lm_head.weight".into(), own["model.embed_tokens.weight"].clone());
    let report = of(folder("gqa-tied", &own, false, tied).path(), "gqa-tied");
    assert_eq!((report.findings[0].id, report.health), (Ailment::UntiedHead, Health::Layout));
    change(&mut own, "lm_head.weight", |_, values| values.reverse());
    only(&of(folder("gqa-tied", &own, false, tied).path(), "gqa-tied"), Ailment::UntiedHead);
    let none = tensors("gqa-tied");
    let report = of(folder("gqa-tied", &none, false, tied).path(), "gqa-tied");
    assert_eq!((report.findings[0].id, report.exit_code()), (Ailment::UntiedHead, 1));

    let mut lost = tensors(untied);
    lost.remove("lm_head.weight");
    only(&of(folder(untied, &lost, false, (tied.1, tied.0)).path(), untied), Ailment::TiedHead);
    only(&of(folder(untied, &lost, false, ("{", "{")).path(), untied), Ailment::Missing);
}

#[test]
fn another_config_is_told() {
    let same = tensors("gqa-tied");
    let theta = ("\"rope_theta\": 1000000.0", "\"rope_theta\": 10000.0");
    let report = of(folder("gqa-tied", &same, true, theta).path(), "gqa-tied");
    assert_eq!((report.findings[0].id, report.exit_code()), (Ailment::Config, 1));
    assert!(report.findings[0].explanation.contains("rope_theta is 10000"), "{:?}", report.findings);
}

/// A record, its embedding in blocks of 100 rows.
fn record(name: &str, tensors: &Tensors, file: &Path) {
    let config = fs::read_to_string(fixture(name).join("config.json")).unwrap();
    let tensor = |name: String, shape: Vec<usize>, values: &[f32]| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        burn_pack::Tensor::new(
            name,
            burn_std::DType::F32,
            shape,
            None,
            burn_std::Bytes::from_bytes_vec(bytes),
        )
    };
    let mut all = Vec::new();
    for (key, (shape, values)) in tensors {
        if key == "model.embed_tokens.weight" || key == "lm_head.weight" {
            for (number, block) in values.chunks(100 * shape[1]).enumerate() {
                all.push(tensor(format!("{key}.{number}"), vec![block.len() / shape[1], shape[1]], block));
            }
        } else {
            all.push(tensor(key.clone(), shape.clone(), values));
        }
    }
    let writer = burn_pack::Writer::new(all).with_metadata("config.json", &config);
    writer.write_to_file(file).unwrap();
}

#[test]
fn records() {
    for name in ["gqa-tied", "mha-untied"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.bpk");
        let mut all = tensors(name);
        record(name, &all, &file);
        let report = of(&file, name);
        assert_eq!((report.health, report.findings.len()), (Health::Same, 0), "{report:#?}");
        assert_eq!(doctor(&fixture(name), &file, &|_| {}).unwrap().health, Health::Same);
        change(&mut all, "model.embed_tokens.weight", |shape, values| {
            values[120 * shape[1]..121 * shape[1]].fill(0.0)
        });
        fs::remove_file(&file).unwrap();
        record(name, &all, &file);
        assert_eq!(only(&of(&file, name), Ailment::ZeroRows).rows, [120]);
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |model: &Path, original: &Path| doctor(model, original, &|_| {}).unwrap_err().to_string();
    let (tied, nowhere) = (fixture("gqa-tied"), folder.path().join("nowhere"));
    for error in [refused(&tied, &nowhere), refused(&nowhere, &tied), refused(&tied, folder.path())] {
        assert!(error.contains(&*folder.path().to_string_lossy()), "{error}");
    }
    let file = folder.path().join("model.gguf");
    let whole = gguf(&Checkpoint::open(&tied).unwrap(), Stored::Q8_0, |_, _| {});
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(refused(&file, &tied).contains("no sound GGUF file"));
    // Of the original everything has to be there.
    let mut tensors = tensors("gqa-tied");
    tensors.remove("model.norm.weight");
    let part = self::folder("gqa-tied", &tensors, false, ("{", "{"));
    let error = format!("{:#}", doctor(&tied, part.path(), &|_| {}).unwrap_err());
    assert!(error.contains("the original is not sound") && error.contains("model.norm.weight"), "{error}");
}

#[test]
fn formats_of_llama_cpp() {
    let (k, v) = (key(1, "self_attn.k_proj"), key(1, "self_attn.v_proj"));
    for name in ["gqa-tied", "mha-untied", "trained-tiny"] {
        let checkpoint = Checkpoint::open(fixture(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.gguf");
        for stored in [Stored::F32, Stored::F16, Stored::BF16, Stored::Q8_0, Stored::Q4_0] {
            fs::write(&file, gguf(&checkpoint, stored, |_, _| {})).unwrap();
            let report = of(&file, name);
            assert!(
                report.health <= Health::Precision && report.findings.is_empty(),
                "{name} {stored:?}: {report:#?}"
            );
            let exchanged = |key: &str, values: &mut Vec<f32>| {
                let other = if key == k { &v } else { &k };
                if key == k || key == v {
                    *values = checkpoint.values(other, &checkpoint.tensors()[other].shape).unwrap();
                }
            };
            fs::write(&file, gguf(&checkpoint, stored, exchanged)).unwrap();
            only(&of(&file, name), Ailment::Exchanged);
            let scaled = |key: &str, values: &mut Vec<f32>| {
                if key == v {
                    values.iter_mut().for_each(|value| *value *= 1.2);
                }
            };
            fs::write(&file, gguf(&checkpoint, stored, scaled)).unwrap();
            only(&of(&file, name), Ailment::Scaled);
        }
    }
}
