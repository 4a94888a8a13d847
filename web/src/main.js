import {render} from "preact";
import {App} from "./app.js";
import {html} from "./html.js";
import {follow_machine} from "./live.js";
import {follow_theme} from "./theme.js";

follow_theme();
follow_machine();
render(html`<${App} />`, document.getElementById("app"));
