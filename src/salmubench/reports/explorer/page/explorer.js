"use strict";
// Words of the data set reach the page as text nodes only: no name and no fact can become markup.

const SETS = {
  forget: ["To be forgotten", "A good method gives away no more of this pair than Clean does."],
  holdout_association: ["Held out: must stay", "Nobody asked to forget this pair; others of this person are to go."],
  holdout_identity: ["Held out: must stay", "Nobody asked to forget this person; a good method leaves it as Compromised has it."],
};
const $ = (id) => document.getElementById(id);
let world, current, asked = 0;

function make(tag, { text, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

const label = (field) => world.labels[field];
const picture = (number) => `/picture/${number}`;
const cosine = (value) => value.toFixed(3).replace("-", "−");

function bar(value, longest) {
  const inner = make("b");
  inner.style.width = `${Math.max(0, Math.min(1, value / longest)) * 100}%`;
  return make("div", { class: "bar" }, make("i", { "aria-hidden": "true" }, inner), make("span", { text: cosine(value), title: "cosine similarity" }));
}

async function ask(path, options) {
  const number = ++asked;
  document.body.classList.add("waiting");
  $("answers").classList.add("busy");
  $("found").classList.add("busy");
  try {
    const response = await fetch(path, options);
    const json = response.headers.get("content-type")?.startsWith("application/json");
    const answer = json ? await response.json() : { error: await response.text() };
    if (number !== asked) return null; // a later question overtook this one
    say(response.ok ? "" : answer.error);
    return response.ok ? answer : null;
  } catch {
    if (number === asked) say("The explorer does not answer; is the command still running?");
    return null;
  } finally {
    if (number === asked) for (const id of ["answers", "found"]) $(id).classList.remove("busy");
  }
}

function say(error) {
  $("error").textContent = error;
  $("error").hidden = !error;
}

// Each column shows one of its models; a slider steps through the budgets of a method.
function columns(place, models, fill) {
  place.replaceChildren(...world.columns.map((column) => {
    const body = make("div");
    const box = make("article", { class: `column ${column.role}` }, make("h2", { text: column.title }));
    const show = (step) => body.replaceChildren(...fill(models[column.steps[step].model]));
    column.at ??= column.steps.length - 1;
    if (column.steps.length > 1) {
      const output = make("output", { text: column.steps[column.at].label });
      const slider = make("input", { type: "range", min: 0, max: column.steps.length - 1, step: 1, value: column.at, "aria-label": `Budget of ${column.title}` });
      const announce = () => slider.setAttribute("aria-valuetext", column.steps[column.at].label);
      slider.addEventListener("input", () => {
        column.at = Number(slider.value);
        output.textContent = column.steps[column.at].label;
        announce();
        show(column.at);
      });
      announce();
      box.append(make("div", { class: "step" }, make("span", { text: "Budget" }), slider, output));
    } else {
      box.append(make("p", { class: "role", text: column.about }));
    }
    show(column.at);
    box.append(body);
    return box;
  }));
}

function facts(answer, longest) {
  const known = current.person !== null;
  return make("ul", {}, ...answer.fields.map(({ field, best, true: own, of }) => {
    const mark = !known ? "" : best.true ? "✓ given away" : "✗ wrong person";
    const truth = own && !best.true ? `truth: rank ${own.rank} of ${of}` : null;
    return make("li", { class: best.true ? "fact true" : "fact" },
      make("div", { class: "top" }, make("span", { text: label(field) }), make("span", { class: "mark", text: mark })),
      make("div", { class: "value", text: best.value }),
      make("div", { class: "who", text: [best.name, truth].filter(Boolean).join(" · ") }),
      bar(best.cosine, longest));
  }));
}

function captions(answer, longest) {
  return make("ul", {}, ...answer.captions.map((caption) => {
    const mark = caption.own ? "✓ the true caption" : caption.true ? "✓ the same person" : "";
    return make("li", { class: caption.true ? "caption true" : "caption" },
      make("div", { text: caption.text }),
      mark ? make("div", { class: "mark who", text: mark }) : null,
      bar(caption.cosine, longest));
  }));
}

function showAnswers(answer) {
  current = answer;
  const tops = answer.models.flatMap((model) => [model.captions[0].cosine]);
  const longest = Math.max(0.05, ...tops);
  columns($("answers"), answer.models, (model) => {
    const head = answer.person
      ? [make("p", { class: "count" }, make("b", { text: `${model.given_away} of ${model.fields.length}` }), "facts given away"),
         make("p", { class: "rank", text: `The picture’s own caption ranks ${model.rank.toLocaleString("en")} of ${model.of.toLocaleString("en")}.` })]
      : [make("p", { class: "rank", text: "Nobody knows whose face this is: nothing can be marked as true." })];
    return [...head, make("h3", { text: "Nearest fact of each kind" }), facts(model, longest),
      make("h3", { text: "Nearest sentences" }), captions(model, longest)];
  });
}

function showCard(answer) {
  const { person, query } = answer;
  const [badge, meaning] = SETS[query.set];
  $("person").value = person.name;
  $("card").replaceChildren(
    make("img", { id: "face", src: picture(query.picture), alt: `Picture of the fictitious ${person.name}` }),
    make("h2", { text: person.name }),
    make("p", { text: person.country }),
    make("span", { class: "badge", text: badge }),
    make("p", { text: meaning }),
    make("p", { text: `Its caption: “${query.caption}”` }),
    make("dl", {}, ...Object.entries(person.facts).flatMap(([field, value]) => [make("dt", { text: label(field) }), make("dd", { text: value })])),
    make("h3", { text: `All ${person.pictures.length} pictures of ${person.name}` }),
    make("div", { class: "strip" }, ...person.pictures.map((each) => {
      const about = `${label(each.field)}, ${SETS[each.set][0].toLowerCase()}`;
      const button = make("button", { type: "button", title: about, "aria-pressed": String(each.picture === query.picture) },
        make("img", { src: picture(each.picture), alt: about, loading: "lazy" }));
      button.addEventListener("click", () => face(each.picture));
      return button;
    })));
}

async function face(number) {
  const answer = await ask(`/face/${number}`);
  if (!answer) return;
  showCard(answer);
  showAnswers(answer);
}

async function upload(file) {
  if (file.size > world.limits.bytes) return say(`The file is larger than ${world.limits.bytes / 1e6} MB; choose a smaller one.`);
  const type = file.type.startsWith("image/") ? file.type : "image/unknown";
  const answer = await ask("/upload", { method: "POST", body: file, headers: { "Content-Type": type } });
  if (!answer) return;
  const address = URL.createObjectURL(file);
  const image = make("img", { id: "face", src: address, alt: "The uploaded picture" });
  image.addEventListener("load", () => URL.revokeObjectURL(address));
  $("person").value = "";
  $("card").replaceChildren(image, make("h2", { text: "Your picture" }),
    make("p", { text: "It was looked at in memory and is stored nowhere." }));
  showAnswers(answer);
}

async function name(text) {
  const answer = await ask(`/name?text=${encodeURIComponent(text)}`);
  if (!answer) return;
  columns($("found"), answer.models, (model) => [
    make("p", { class: "count" }, ...(answer.known
      ? [make("b", { text: `${model.found} of ${model.faces.length}` }), "faces are the right person’s"]
      : ["Nobody has exactly this name; these faces are nearest."])),
    make("div", { class: "faces" }, ...model.faces.map((each) => {
      const button = make("button", { type: "button", class: each.true ? "true" : "", title: "Look at this face" },
        make("img", { src: picture(each.picture), alt: "" }),
        make("span", { text: each.true ? `✓ ${each.name}` : each.name }), make("span", { text: cosine(each.cosine) }));
      button.addEventListener("click", () => { view(true); face(each.picture); });
      return button;
    })),
  ]);
}

function view(faces) {
  $("face-view").hidden = !faces;
  $("name-view").hidden = faces;
  $("by-face").setAttribute("aria-pressed", String(faces));
  $("by-name").setAttribute("aria-pressed", String(!faces));
}

const named = (text) => world.people.find((person) => person.name.toLowerCase() === text.trim().toLowerCase());

function listen() {
  $("by-face").addEventListener("click", () => view(true));
  $("by-name").addEventListener("click", () => {
    view(false);
    if (!$("name").value) $("name").value = current?.person?.name ?? world.people[0].name;
    name($("name").value);
  });
  const choose = () => {
    const person = named($("person").value);
    if (person) face(person.picture);
    return person;
  };
  $("person").addEventListener("input", choose);
  $("person").addEventListener("focus", () => $("person").select());
  $("person-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!choose()) say("Nobody here has that name; choose one of the list.");
  });
  $("another").addEventListener("click", () => {
    const others = world.people.filter((person) => person.id !== current?.person?.id);
    if (others.length) face(others[Math.floor(Math.random() * others.length)].picture);
  });
  $("file").addEventListener("change", () => {
    if ($("file").files.length) upload($("file").files[0]);
    $("file").value = "";
  });
  $("name-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if ($("name").value.trim()) name($("name").value.trim());
  });
}

async function begin() {
  world = await ask("/world");
  if (!world) return;
  $("people").replaceChildren(...world.people.map((person) => make("option", { value: person.name })));
  const { people, captions: sentences } = world.sizes;
  $("about").textContent = `Each model compares the picture with ${sentences.toLocaleString("en")} sentences about ` +
    `${people.toLocaleString("en")} people and about things; a bar is a cosine similarity, on one scale for all models. A fact counts as given away ` +
    `where, of all sentences that tell such a fact, the nearest is about the right person; a guess is right once in ${people.toLocaleString("en")}.`;
  listen();
  await face(world.first);
}

begin();
