{{/*
Environment variables. A value arrives here as the text to print: quoted where upstream quotes, raw where it does not,
because a raw license such as `12345678` or `a #b` is a trap that must stay.
*/}}
{{- define "ui.var" -}}
- name: {{ index . 0 }}
  value: {{ index . 1 }}
{{- end -}}

{{/* Variables of an undeclared `env`, then of an undeclared `envSecrets` (variable: Secret that has it as a key). */}}
{{- define "ui.env.more" -}}
{{- range $name, $text := .env }}
{{ include "ui.var" (list $name (quote $text)) }}
{{- end }}
{{- range $name, $secret := .envSecrets }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {key: {{ quote $name }}, name: {{ $secret }}}
{{- end }}
{{- end -}}

{{- define "ui.env.core" -}}
{{- $core := .Values.core -}}
{{- $broker := include "ui.core.broker" . | quote -}}
{{ include "ui.var" (list "APP_ENV" (default "prod" $core.app_env)) }}
- {name: DATABASE_URL, valueFrom: {secretKeyRef: {name: core-secret, key: core.database_url}}}
{{ include "ui.var" (list "PORT" (quote $core.port)) }}
- {name: SECRET_KEY, valueFrom: {secretKeyRef: {name: core-secret, key: core.secret_key}}}
{{ include "ui.var" (list "WORKER_TIMEOUT" (default "3000" $core.worker_timeout | quote)) }}
{{ include "ui.var" (list "CELERY_BROKER_URL" $broker) }}
{{ include "ui.var" (list "CELERY_RESULT_BACKEND" $broker) }}
{{ include "ui.var" (list "RAY_ADDRESS" (quote $core.ray_address)) }}
{{ include "ui.var" (list "LICENSE_KEY_SIGNED" .Values.SynthoLicense) }}
{{ include "ui.var" (list "MAX_WORKERS" (quote $core.workers)) }}
{{ include "ui.var" (list "REDIS_HOST" (quote $core.redis.host)) }}
{{ include "ui.var" (list "REDIS_PORT" (quote $core.redis.port)) }}
{{- include "ui.env.more" $core }}
{{- end -}}

{{/* What the web server and the worker of the backend share; the caller appends the rest and `ui.env.more`. */}}
{{- define "ui.env.backend" -}}
{{- $values := .Values -}}
{{- $engine := printf "%v-service:%v" .Values.core.name .Values.core.service.port -}}
- name: FRONTEND_URL
  value: {{ $values.frontend_protocol }}://{{ $values.frontend_url }}
{{ include "ui.var" (list "SYNTHO_ENGINE_URL" (print "http://" $engine "/api")) }}
{{ include "ui.var" (list "SYNTHO_WEBSOCKET_URL" (print "ws://" $engine "/websocket/")) }}
- {name: SECRET_KEY, valueFrom: {secretKeyRef: {name: backend-secret, key: backend.secret_key}}}
- {name: DJANGO_PRODUCTION, value: "True"}
{{- with .Values.backend }}
{{ include "ui.var" (list "REDIS_HOST" (quote .redis.host)) }}
{{ include "ui.var" (list "REDIS_PORT" (quote .redis.port)) }}
{{ include "ui.var" (list "REDIS_DB_INDEX" (quote .redis.db)) }}
- {name: USER_PASSWORD, valueFrom: {secretKeyRef: {name: backend-secret, key: backend.user.password}}}
{{ include "ui.var" (list "USER_NAME" (quote .user.username | default "admin")) }}
{{ include "ui.var" (list "USER_EMAIL" (quote .user.email | default "admin@company.com")) }}
{{ include "ui.var" (list "DB_HOST" (quote .db.host)) }}
{{ include "ui.var" (list "DB_PORT" (quote .db.port | default "5432")) }}
{{ include "ui.var" (list "DB_NAME" (quote .db.name)) }}
{{ include "ui.var" (list "DB_USER" (quote .db.user)) }}
{{- end }}
- {name: DB_PASSWORD, valueFrom: {secretKeyRef: {name: backend-secret, key: backend.db.password}}}
{{- end -}}
